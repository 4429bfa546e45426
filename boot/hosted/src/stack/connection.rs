//! One connection of the host.

use std::io::{ErrorKind, IoSlice, Read as _, Result, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use basalt_env::{DmaRun, Work};
use basalt_hosted::Ready;
use basalt_net::SocketError;
use socket2::SockRef;

use super::buffer::Buffer;

/// Receive and send buffer of a connection, bytes, as on the metal.
const BUFFER_LEN: usize = 128 << 10;
/// So many bytes are not worth copying before they are sent.
const DIRECT_MIN: usize = 2 << 10;
/// Runs of bytes that the host is handed at a time.
const PARTS_MAX: usize = 64;

/// Whether the host would take or give bytes, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Not until the host says so.
    Blocked,
    /// No more bytes will come.
    Ended,
    Reset,
}

/// A connection's socket and the bytes on their way.
pub struct Connection {
    stream: TcpStream,
    received: Buffer,
    unsent: Buffer,
    inward: Way,
    outward: Way,
    /// The peer's end or an error is near: reading goes on until it is met.
    ending: bool,
    /// Whether its stack knows that there are bytes to send.
    marked: bool,
    closing: bool,
    shut_down: bool,
}

impl Connection {
    /// Takes over an established connection.
    pub fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Buffer::new(BUFFER_LEN),
            unsent: Buffer::new(BUFFER_LEN),
            inward: Way::Open,
            outward: Way::Open,
            ending: false,
            marked: false,
            closing: false,
            shut_down: false,
        })
    }

    /// Takes over a connection that has been asked for: the host says when it is there.
    pub fn asked_for(stream: TcpStream) -> Result<Self> {
        let connection = Self::new(stream)?;
        Ok(Self { inward: Way::Blocked, outward: Way::Blocked, ..connection })
    }

    /// Its socket.
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Takes note of what the host says.
    pub fn note(&mut self, ready: Ready) {
        self.ending |= ready.ended;
        if ready.readable && self.inward == Way::Blocked {
            self.inward = Way::Open;
        }
        if ready.writable && self.outward == Way::Blocked {
            self.outward = Way::Open;
        }
    }

    /// See [`basalt_net::NetStack::recv`].
    pub fn recv(
        &mut self,
        take: &mut dyn FnMut(&[u8]) -> usize,
    ) -> std::result::Result<usize, SocketError> {
        if self.received.is_empty() {
            self.read();
        }
        if self.received.is_empty() {
            return match self.inward {
                Way::Open | Way::Blocked => Ok(0),
                Way::Ended => Err(SocketError::Closed),
                Way::Reset => Err(SocketError::Reset),
            };
        }
        let taken = take(self.received.filled());
        self.received.consume(taken);
        if taken == 0 {
            // It may want more at once than there is.
            self.read();
        }
        Ok(taken)
    }

    fn read(&mut self) {
        if self.inward != Way::Open {
            return;
        }
        let room = self.received.room();
        if room.is_empty() {
            return;
        }
        match self.stream.read(room) {
            Ok(0) => self.inward = Way::Ended,
            Ok(len) => {
                // All there was, unless the end is still to come.
                if len < room.len() && !self.ending {
                    self.inward = Way::Blocked;
                }
                self.received.fill(len);
            }
            Err(error) => self.inward = after(&error),
        }
    }

    /// See [`basalt_net::NetStack::send_vectored`]. Many bytes go to the host at once, with what
    /// was queued before them; few are queued.
    pub fn send(&mut self, parts: &[DmaRun<'_>]) -> std::result::Result<usize, SocketError> {
        if self.outward == Way::Reset || self.inward == Way::Reset {
            return Err(SocketError::Reset);
        }
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        if whole < DIRECT_MIN || self.outward != Way::Open {
            return Ok(self.queue(parts));
        }
        let mut total = 0;
        for parts in parts.chunks(PARTS_MAX) {
            let (sent, all) = self.send_directly(parts)?;
            total += sent;
            if sent < all {
                break;
            }
        }
        Ok(total)
    }

    /// Queues what there is room for.
    fn queue(&mut self, parts: &[DmaRun<'_>]) -> usize {
        let mut total = 0;
        for part in parts {
            let sent = self.unsent.append(part.as_slice());
            total += sent;
            if sent < part.len() {
                break;
            }
        }
        total
    }

    /// How many bytes the host took, of how many.
    fn send_directly(
        &mut self,
        parts: &[DmaRun<'_>],
    ) -> std::result::Result<(usize, usize), SocketError> {
        let mut slices = [IoSlice::new(&[]); PARTS_MAX + 1];
        let queued = self.unsent.filled();
        slices[0] = IoSlice::new(queued);
        let mut all = 0;
        for (slice, part) in slices[1..].iter_mut().zip(parts) {
            *slice = IoSlice::new(part.as_slice());
            all += part.len();
        }
        match self.stream.write_vectored(&slices[usize::from(queued.is_empty())..=parts.len()]) {
            Ok(sent) => {
                let direct = sent.saturating_sub(queued.len());
                self.unsent.consume(sent);
                Ok((direct, all))
            }
            Err(error) => {
                self.outward = after(&error);
                if self.outward == Way::Reset { Err(SocketError::Reset) } else { Ok((0, all)) }
            }
        }
    }

    /// Hands queued bytes to the host, as many as it takes.
    pub fn flush(&mut self) -> Work {
        let mut work = Work::IDLE;
        while self.outward == Way::Open && !self.unsent.is_empty() {
            match self.stream.write(self.unsent.filled()) {
                Ok(sent) => {
                    self.unsent.consume(sent);
                    work = Work(1);
                }
                Err(error) => self.outward = after(&error),
            }
        }
        work
    }

    /// Whether its stack was told that it has bytes to send.
    pub const fn is_unsent(&self) -> bool {
        self.marked
    }

    /// Whether it has bytes to send that may still go; the stack is taken to know it from now on.
    pub fn mark_unsent(&mut self) -> bool {
        self.marked = !self.unsent.is_empty() && self.outward != Way::Reset;
        self.marked
    }

    /// Its user has given it up: it sends what it has, and receives for nobody.
    pub fn start_closing(&mut self) {
        self.closing = true;
    }

    /// Whether its user has given it up.
    pub const fn is_closing(&self) -> bool {
        self.closing
    }

    /// A step towards its end; whether that is reached.
    ///
    /// The peer's end is waited for, as the host would reset the connection if bytes came after it
    /// was closed, and the peer might lose the last ones that were sent.
    pub fn finish(&mut self) -> bool {
        let _ = self.flush();
        if self.outward == Way::Reset {
            return true;
        }
        if self.unsent.is_empty() && !self.shut_down {
            self.shut_down = true;
            if self.stream.shutdown(Shutdown::Write).is_err() {
                return true;
            }
        }
        while self.inward == Way::Open {
            self.received.consume(usize::MAX);
            self.read();
        }
        match self.inward {
            Way::Open | Way::Blocked => false,
            Way::Ended => self.shut_down,
            Way::Reset => true,
        }
    }

    /// Makes its end a reset.
    pub fn reset(&mut self) {
        // If this fails, it ends in order instead.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        self.closing = true;
    }
}

/// What an error of the host means for the way it happened on.
fn after(error: &std::io::Error) -> Way {
    match error.kind() {
        ErrorKind::WouldBlock => Way::Blocked,
        ErrorKind::Interrupted => Way::Open,
        _ => Way::Reset,
    }
}
