//! The other end of a guest's Ethernet cable: asks for its address, and takes the time.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// The guest's address, and ours.
pub(super) const GUEST: [u8; 4] = [10, 0, 0, 1];
const SELF: [u8; 4] = [10, 0, 0, 2];
const SELF_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x00, 0x00, 0x02];
const BROADCAST: [u8; 6] = [0xff; 6];

/// How long the guest may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest frame taken; what QEMU sends is shorter.
const FRAME_MAX: usize = 1 << 16;
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const REPLY: [u8; 2] = [0, 2];

/// A cable whose other end is a guest with [`crate::Network::Listen`].
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
}

impl Wire {
    /// Plugs it into the guest that listens at `socket`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(super) fn plug_in(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's network is out of reach")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Asks who has the guest's address (RFC 826), and waits for its answer.
    ///
    /// # Errors
    /// It does not answer in time.
    pub(super) fn ask(&mut self) -> anyhow::Result<Duration> {
        let frame = request();
        let mut message = (frame.len() as u32).to_be_bytes().to_vec();
        message.extend(frame);
        let asked = Instant::now();
        self.stream.write_all(&message)?;
        while asked.elapsed() < PATIENCE {
            let frame = self.receive().context("the guest does not answer ARP")?;
            if is_answer(&frame) {
                return Ok(asked.elapsed());
            }
        }
        bail!("the guest sends frames, but does not answer ARP");
    }

    /// The next frame, of any kind. QEMU puts its length before it.
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len) as usize;
        if len > FRAME_MAX {
            return Err(io::Error::other(format!("a frame of {len} bytes")));
        }
        let mut frame = vec![0; len];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }
}

fn request() -> Vec<u8> {
    let mut frame = Vec::with_capacity(60);
    frame.extend(BROADCAST);
    frame.extend(SELF_MAC);
    frame.extend(ETHERTYPE_ARP);
    // Ethernet, IPv4, their lengths, request.
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(SELF_MAC);
    frame.extend(SELF);
    frame.extend([0; 6]);
    frame.extend(GUEST);
    frame.resize(60, 0);
    frame
}

fn is_answer(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ETHERTYPE_ARP)
        && frame.get(20..22) == Some(&REPLY)
        && frame.get(28..32) == Some(&GUEST)
}
