//! CPU-bound jobs with backpressure: a fast producer, as many workers as cores, bounded memory.
//!
//! ```text
//! cargo run --release --example cpu_jobs
//! ```

use std::error::Error;
use std::sync::Arc;
use std::thread;

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

    let block_counter = Arc::new(());
    let blocks = (0..BLOCKS).map(|number| Block::produce(number, &block_counter));
    // The backpressure: blocks are produced only as calls end. So the producer stands still while all places are taken.
    let hashes = bulkhead
        .run_map(blocks, Block::hash)
        .in_flight(places)
        .as_completed();

    let (mut checksum, mut hashed, mut most_in_memory) = (0_u64, 0_u64, 0);
    for hash in hashes {
        checksum = checksum.wrapping_add(hash.into_result()?);
        hashed += 1;
        most_in_memory = most_in_memory.max(Arc::strong_count(&block_counter) - 1);
    }

    let stats = bulkhead.stats();
    let (waited, ran) = (stats.queue_wait.mean(), stats.run_time.mean());
    println!("checksum: {checksum:016x}");
    println!("hashed: {hashed} of {BLOCKS} blocks");
    println!("a block on average: {waited:.0?} in the queue, {ran:.0?} on a worker");
    let total = BLOCKS as usize * BLOCK_SIZE / 1024;
    let most = most_in_memory * BLOCK_SIZE / 1024;
    println!("most in memory at a time: {most_in_memory} blocks, {most} KiB of {total} KiB");

    if hashed != BLOCKS || most_in_memory > places {
        return Err("a block is missing, or there were more at a time than there may be".into());
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
    fn hash(self) -> u64 {
        self.bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}
