//! A task that yields items while it runs: rows of a large file, read by the worker and used by the caller.
//!
//! ```text
//! cargo run --example stream
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkman::{Bulkhead, BulkheadConfig, ExecutionStream};

const ROWS: u32 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let orders = write_orders()?;
    let files = Bulkhead::new(BulkheadConfig::new("files").max_concurrent_calls(2))?;

    // 1. All rows. At most 16 of them are in memory at a time, however fast the worker reads. A file that breaks off in the
    //    middle, a panic and a limit all come as the last item, so `?` misses nothing.
    let (mut rows, mut sum) = (0, 0);
    for amount in read_amounts(&files, &orders) {
        sum += u64::from(amount?);
        rows += 1;
    }
    println!("{rows} rows, {sum} in all");

    // 2. The first that fits. A consumer that has enough goes, and the worker stops at its next row.
    let mut amounts = read_amounts(&files, &orders);
    let large = amounts.items().find(|amount| *amount > 900);
    let outcome = amounts.finish();
    let ran = outcome.execution_time;
    let read = outcome.into_result()?;
    println!("the first large amount: {large:?}, after {read} rows and {ran:.0?}");

    // 3. What goes wrong is told when the items are over.
    let mut missing = read_amounts(&files, Path::new("no/such/file"));
    println!("items of a missing file: {}", missing.items().count());
    match missing.finish().into_result() {
        Ok(_) => return Err("there is no such file".into()),
        Err(error) => println!("its outcome: {error}"),
    }

    std::fs::remove_file(&orders)?;
    if rows != ROWS || read >= ROWS {
        return Err("rows are missing, or the worker has read on".into());
    }
    Ok(())
}

/// Yields the amount of each row, and at last how many rows it has read.
fn read_amounts(files: &Bulkhead, path: &Path) -> ExecutionStream<u32, u32, io::Error> {
    let path = PathBuf::from(path);
    let call = files.call().operation("read_amounts");
    call.timeout(Duration::from_secs(30))
        .execute_stream(move |amounts| {
            let mut read = 0;
            for line in BufReader::new(File::open(path)?).lines() {
                let amount = line?.parse().map_err(io::Error::other)?;
                read += 1;
                if amounts.send(amount).is_err() {
                    break; // nobody wants the rest
                }
            }
            Ok(read)
        })
}

fn write_orders() -> io::Result<PathBuf> {
    let name = format!("bulkman-orders-{}.txt", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = BufWriter::new(File::create(&path)?);
    for row in 0..ROWS {
        writeln!(file, "{}", row % 1_000)?;
    }
    file.flush()?;
    Ok(path)
}
