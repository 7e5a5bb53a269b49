//! CPU-bound jobs with backpressure: a fast producer, as many workers as cores, bounded memory.
//!
//! ```text
//! cargo run --release --example cpu_jobs
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig};

const BLOCKS: u64 = 2_000;
const BLOCK_SIZE: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    // More threads than cores would only take turns. The short queue keeps them busy while the producer
    // makes the next block; a longer one would hold more memory and gain nothing.
    let workers = thread::available_parallelism()?.get();
    let config = BulkheadConfig::new("hashing").max_concurrent_calls(workers);
    let bulkhead = Bulkhead::new(config.max_queue_size(2 * workers))?;
    let places = bulkhead.available_capacity();
    println!("{BLOCKS} blocks of 64 KiB; workers: {workers}; places: {places}");

    let checksum = Arc::new(AtomicU64::new(0));
    let block_counter = Arc::new(());
    let (mut most_in_bulkhead, mut most_in_memory) = (0, 0);
    for number in 0..BLOCKS {
        let block = Block::produce(number, &block_counter);
        most_in_memory = most_in_memory.max(Arc::strong_count(&block_counter) - 1);

        let checksum = Arc::clone(&checksum);
        // The backpressure: while all places are taken, the producer stands still. No free place in a minute
        // would mean that something is wrong, and `?` says so.
        let handle = bulkhead
            .call()
            .wait_for_capacity(Duration::from_secs(60))
            .try_run(move || checksum.fetch_add(block.hash(), Ordering::Relaxed))?;
        // No thread waits for a single block, and 2,000 handles would be memory without a bound. The ledger tells
        // whether all went well.
        drop(handle);
        most_in_bulkhead = most_in_bulkhead.max(places - bulkhead.available_capacity());
    }
    bulkhead.shutdown(); // runs what is queued; from here on all numbers are final

    let stats = bulkhead.stats();
    let (waited, ran) = (stats.queue_wait.mean(), stats.run_time.mean());
    println!("checksum: {:016x}", checksum.load(Ordering::Relaxed));
    println!("hashed: {} of {BLOCKS} blocks", stats.successful_executions);
    println!("a block on average: {waited:.0?} in the queue, {ran:.0?} on a worker");
    println!("most in the bulkhead at a time: {most_in_bulkhead} of {places} places");
    let total = BLOCKS as usize * BLOCK_SIZE / 1024;
    let most = most_in_memory * BLOCK_SIZE / 1024;
    println!("most in memory at a time: {most_in_memory} blocks, {most} KiB of {total} KiB");

    // One more than there are places: the producer holds a block while it waits.
    if stats.successful_executions != BLOCKS || most_in_memory > places + 1 {
        return Err("a block failed, or there were more at a time than there may be".into());
    }
    Ok(())
}

struct Block {
    bytes: Vec<u8>,
    _counted: Arc<()>,
}

impl Block {
    fn produce(number: u64, counter: &Arc<()>) -> Self {
        let bytes = number.to_le_bytes().repeat(BLOCK_SIZE / 8);
        let _counted = Arc::clone(counter);
        Self { bytes, _counted }
    }

    /// FNV-1a, 64 bits.
    fn hash(&self) -> u64 {
        self.bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}
