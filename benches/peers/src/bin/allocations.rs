//! Blocks and bytes that a call allocates, on all threads together. A program of its own, so that the counting
//! costs nothing where times are taken.
//!
//! Prints a line for each pool: name, blocks and bytes, separated by tabs.

use std::alloc::System;

use bulkman_peers::candidates::one_by_one;
use bulkman_peers::pools::{Bulkman, ByHand, Pool, Rayon, RustyPool, ThreadPool, Tokio};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn count<P: Pool>() {
    const CALLS: usize = 10_000;
    let pool = P::start(1, 100);
    // What each thread and each pool needs once.
    one_by_one(&pool, 1_000);
    let region = Region::new(COUNTING);
    one_by_one(&pool, CALLS);
    let counted = region.change();
    let each = |total: usize| total as f64 / CALLS as f64;
    let blocks = each(counted.allocations + counted.reallocations);
    println!(
        "{}\t{blocks:.2}\t{:.0}",
        P::NAME,
        each(counted.bytes_allocated)
    );
}

fn main() {
    count::<Bulkman>();
    count::<ByHand>();
    count::<Rayon>();
    count::<RustyPool>();
    count::<ThreadPool>();
    count::<Tokio>();
}
