//! A value whose drop panics.

/// Panics when it is dropped, unless its thread is panicking already.
#[derive(Debug)]
pub struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the bomb went off");
        }
    }
}
