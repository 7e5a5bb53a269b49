//! Networks that fail: one that never answers, and one that can be interrupted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A server that accepts connections and never says a word.
#[derive(Debug)]
pub struct Silent {
    acceptor: Acceptor,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    pub fn start() -> Self {
        let held = Arc::new(Mutex::new(Vec::new()));
        let theirs = held.clone();
        Self {
            acceptor: Acceptor::start(move |stream| locked(&theirs).push(stream)),
            held,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.acceptor.address
    }

    /// How many connections have been made so far.
    pub fn connections(&self) -> usize {
        locked(&self.held).len()
    }
}

/// A way to a server that can be cut, paused and resumed.
///
/// A call that changes it returns when no byte is on the way any more under the old rule.
#[derive(Debug)]
pub struct Link {
    // Goes first, so that no connection comes after the last.
    acceptor: Acceptor,
    wire: Arc<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    state: Mutex<WireState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct WireState {
    flow: Flow,
    /// How many threads are handing bytes on.
    writing: usize,
    /// Both ends of every connection.
    ends: Vec<TcpStream>,
    pumps: Vec<JoinHandle<()>>,
    connections: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    Paused,
    Cut,
}

impl Link {
    /// An open one.
    pub fn to(server: SocketAddr) -> Self {
        let wire = Arc::<Wire>::default();
        let theirs = wire.clone();
        Self {
            acceptor: Acceptor::start(move |near| theirs.connect(near, server)),
            wire,
        }
    }

    /// Where to connect to instead of the server.
    pub fn address(&self) -> SocketAddr {
        self.acceptor.address
    }

    /// How many connections have come in so far, those to a cut link included.
    pub fn connections(&self) -> usize {
        locked(&self.wire.state).connections
    }

    /// Ends every connection, and each new one at once, until `resume`.
    pub fn cut(&self) {
        self.wire.set(Flow::Cut);
    }

    /// Holds back all bytes, in both directions, until `resume`. Connections can be made.
    pub fn pause(&self) {
        self.wire.set(Flow::Paused);
    }

    /// Lets everything through, held-back bytes first.
    pub fn resume(&self) {
        self.wire.set(Flow::Open);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.acceptor.stop();
        self.cut();
        let pumps = std::mem::take(&mut locked(&self.wire.state).pumps);
        for pump in pumps {
            let _ = pump.join();
        }
    }
}

impl Wire {
    fn set(&self, flow: Flow) {
        let mut state = locked(&self.state);
        state.flow = flow;
        if flow == Flow::Cut {
            for end in state.ends.drain(..) {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
        while state.writing > 0 {
            state = self.wait(state);
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, WireState>) -> MutexGuard<'a, WireState> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a connection to one of its own to the server. Without a server, or when cut, it just ends.
    fn connect(self: &Arc<Self>, near: TcpStream, server: SocketAddr) {
        let mut state = locked(&self.state);
        state.connections += 1;
        if state.flow == Flow::Cut {
            return;
        }
        // The kernel makes a connection to a server that listens at once, even to a frozen one.
        let Ok(far) = TcpStream::connect(server) else {
            return;
        };
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (from, to, wire) = (clone(from), clone(to), self.clone());
            let pump = std::thread::spawn(move || wire.pump(from, to));
            state.pumps.push(pump);
        }
        state.ends.extend([near, far]);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 * 1024];
        loop {
            let read = from.read(&mut bytes).unwrap_or(0);
            // The end of a connection is held back, too.
            if !self.begin_write() {
                return;
            }
            let written = match read {
                0 => to.shutdown(Shutdown::Write),
                n => to.write_all(&bytes[..n]),
            };
            self.end_write();
            if read == 0 || written.is_err() {
                return;
            }
        }
    }

    /// Waits while paused; false when cut.
    fn begin_write(&self) -> bool {
        let mut state = locked(&self.state);
        while state.flow == Flow::Paused {
            state = self.wait(state);
        }
        if state.flow == Flow::Cut {
            return false;
        }
        state.writing += 1;
        true
    }

    fn end_write(&self) {
        locked(&self.state).writing -= 1;
        self.changed.notify_all();
    }
}

/// Takes connections on a free port, in a thread that ends with it.
#[derive(Debug)]
struct Acceptor {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    fn start(mut take: impl FnMut(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = ended.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if theirs.load(Ordering::SeqCst) {
                    break;
                }
                take(stream);
            }
        });
        Self {
            address,
            ended,
            thread: Some(thread),
        }
    }

    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.ended.store(true, Ordering::SeqCst);
        // The thread looks at the flag when a connection comes.
        if TcpStream::connect(self.address).is_ok() {
            let _ = thread.join();
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a further descriptor")
}

/// Also when a test that fails has poisoned it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
