//! An Ethernet cable between two guests that passes through the test, which loses, doubles and
//! swaps frames, and can be cut; and which a guest at either end may leave and come back to.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use basalt_runner::{Network, Nic};

use crate::initiator::Random;
use crate::wire::{BASALT_MAC, CLIENT_MAC};

/// How long a thread waits for frames before it looks whether the cable is still there, and before
/// a frame that was held back goes on by itself.
const PAUSE: Duration = Duration::from_millis(20);
/// A longer frame than any card sends: the stream is not QEMU's.
const FRAME_MAX: usize = 1 << 17;

/// What becomes of frames, each in frames per thousand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Lost.
    pub lost: u32,
    /// Delivered twice.
    pub doubled: u32,
    /// Delivered after the next one.
    pub swapped: u32,
}

/// One end, while a guest is at it.
type Plug = Mutex<Option<UnixStream>>;

struct Shared {
    ends: [Plug; 2],
    losses: Mutex<Losses>,
    is_cut: AtomicBool,
    passed: AtomicU64,
    lost: AtomicU64,
}

/// The cable. Basalt's end listens, as that of a [`crate::Wire`] does.
pub struct Relay {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
}

impl Relay {
    /// A whole cable without losses.
    ///
    /// # Panics
    /// The host has no room for sockets.
    #[must_use]
    pub fn new() -> Self {
        Self::try_new().unwrap_or_else(|error| panic!("no place for a socket: {error}"))
    }

    fn try_new() -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("basalt-relay").tempdir()?;
        let shared = Arc::new(Shared {
            ends: [Plug::default(), Plug::default()],
            losses: Mutex::default(),
            is_cut: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let relay = Self { directory, shared };
        let listener = UnixListener::bind(relay.socket("far"))?;
        listener.set_nonblocking(true)?;
        let near = relay.socket("near");
        relay.serve(0, move || UnixStream::connect(&near));
        relay.serve(1, move || listener.accept().map(|(stream, _)| stream));
        Ok(relay)
    }

    /// Basalt's card.
    #[must_use]
    pub fn near_end(&self) -> Nic {
        Nic { network: Network::Listen(self.socket("near")), mac: Some(BASALT_MAC) }
    }

    /// The client's card.
    #[must_use]
    pub fn far_end(&self) -> Nic {
        Nic { network: Network::Connect(self.socket("far")), mac: Some(CLIENT_MAC) }
    }

    /// From now on that becomes of frames.
    pub fn set_losses(&self, losses: Losses) {
        *lock(&self.shared.losses) = losses;
    }

    /// Nothing gets through from now on.
    pub fn cut(&self) {
        self.shared.is_cut.store(true, Ordering::Relaxed);
    }

    /// All is well again.
    pub fn heal(&self) {
        self.shared.is_cut.store(false, Ordering::Relaxed);
    }

    /// Frames that were passed on, and those that were not.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Passes on what comes from whoever `open` finds at that end, for as long as there is a cable.
    fn serve(&self, end: usize, open: impl Fn() -> io::Result<UnixStream> + Send + 'static) {
        let shared = Arc::downgrade(&self.shared);
        thread::spawn(move || {
            while shared.strong_count() > 0 {
                match open() {
                    Ok(stream) => attend(&shared, end, stream),
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        });
    }
}

impl Default for Relay {
    fn default() -> Self {
        Self::new()
    }
}

/// Nobody who holds one leaves it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One guest's time at an end.
fn attend(shared: &Weak<Shared>, end: usize, mut stream: UnixStream) {
    let ready = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(PAUSE)))
        .and_then(|()| stream.try_clone());
    let (Ok(writer), Some(cable)) = (ready, shared.upgrade()) else { return };
    *lock(&cable.ends[end]) = Some(writer);
    drop(cable);
    let mut way = Way { random: Random::new(end as u64 + 1), held: None, to: 1 - end };
    let (mut received, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let Some(cable) = shared.upgrade() else { return };
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => received.extend_from_slice(&chunk[..len]),
            Err(error) if is_late(&error) => way.release(&cable),
            Err(_) => break,
        }
        while let Some(frame) = next_frame(&mut received) {
            way.pass(&cable, frame);
        }
    }
    if let Some(cable) = shared.upgrade() {
        *lock(&cable.ends[end]) = None;
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The next frame, with the length before it.
fn next_frame(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = u32::from_be_bytes(*received.first_chunk()?) as usize;
    assert!(len <= FRAME_MAX, "a frame of {len} bytes");
    (received.len() >= 4 + len).then(|| received.drain(..4 + len).collect())
}

/// One direction.
struct Way {
    random: Random,
    held: Option<Vec<u8>>,
    to: usize,
}

impl Way {
    fn pass(&mut self, cable: &Shared, frame: Vec<u8>) {
        let Losses { lost, doubled, swapped } = *lock(&cable.losses);
        if cable.is_cut.load(Ordering::Relaxed) || self.happens(lost) {
            cable.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.held.is_none() && self.happens(swapped) {
            self.held = Some(frame);
            return;
        }
        self.deliver(cable, &frame);
        if self.happens(doubled) {
            self.deliver(cable, &frame);
        }
        self.release(cable);
    }

    /// What was held back goes on.
    fn release(&mut self, cable: &Shared) {
        if let Some(late) = self.held.take() {
            self.deliver(cable, &late);
        }
    }

    fn deliver(&self, cable: &Shared, frame: &[u8]) {
        let mut end = lock(&cable.ends[self.to]);
        let Some(stream) = &mut *end else { return };
        if stream.write_all(frame).is_ok() {
            cable.passed.fetch_add(1, Ordering::Relaxed);
        } else {
            *end = None;
        }
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        self.random.below(1000) < per_thousand as usize
    }
}
