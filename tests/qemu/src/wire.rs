//! An Ethernet cable between two guests.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use basalt_runner::{Network, Nic};

/// The address of Basalt's end.
pub const BASALT_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xba, 0x5a, 0x01];
/// The address of the client's end.
pub const CLIENT_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0xba, 0x5a, 0x02];

const LISTEN_TIMEOUT: Duration = Duration::from_secs(20);

/// A cable: one end stays plugged in while guests come and go at the other. It must outlive both.
#[derive(Debug)]
pub struct Wire {
    directory: tempfile::TempDir,
}

impl Wire {
    /// A new cable.
    ///
    /// # Panics
    /// The host has no room for a temporary directory.
    #[must_use]
    pub fn new() -> Self {
        match tempfile::Builder::new().prefix("basalt-wire").tempdir() {
            Ok(directory) => Self { directory },
            Err(error) => panic!("no place for a socket: {error}"),
        }
    }

    /// The card of the guest that is started first and stays.
    #[must_use]
    pub fn near_end(&self) -> Nic {
        Nic { network: Network::Listen(self.socket()), mac: Some(BASALT_MAC) }
    }

    /// The card of a guest that comes later; waits until the other end is there.
    ///
    /// # Panics
    /// The first guest is not started.
    #[must_use]
    pub fn far_end(&self) -> Nic {
        let deadline = Instant::now() + LISTEN_TIMEOUT;
        while !self.socket().exists() {
            assert!(Instant::now() < deadline, "nobody listens at the other end of the wire");
            std::thread::sleep(Duration::from_millis(10));
        }
        Nic { network: Network::Connect(self.socket()), mac: Some(CLIENT_MAC) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("wire")
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::new()
    }
}
