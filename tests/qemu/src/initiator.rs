//! A small NVMe/TCP initiator that runs in the test itself and reaches the image by a forwarded
//! port: for tests that need one I/O rather than a whole Linux, and for those that need to break
//! the rules, which a real initiator does not do.

pub mod command;
pub mod pdu;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use command::{Command, Connect};
use pdu::{Received, get16, get32, put16, put32};

/// How long any single wait takes at most.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Largest PDU a target may send to this initiator, bytes.
const PDU_LEN_MAX: usize = 4 << 20;
/// Data that fits every target's command capsule, bytes.
const IN_CAPSULE_MAX: usize = 4096;

/// Which way a command's data goes.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// There is none.
    None,
    /// To the host, this many bytes.
    ToHost(u32),
    /// From the host; in the capsule if it fits.
    FromHost(&'a [u8]),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code type and status code, as in [`command`].
    pub status: u16,
    /// Command-specific result.
    pub dw0: u32,
    /// Data to the host.
    pub data: Vec<u8>,
}

/// One TCP connection: a queue once connected.
#[derive(Debug)]
pub struct Queue {
    stream: TcpStream,
    cid: u16,
}

impl Queue {
    /// Opens a TCP connection to `port` of 127.0.0.1 and says nothing yet.
    ///
    /// # Errors
    /// Nobody accepts it.
    pub fn open(port: u16) -> anyhow::Result<Self> {
        Self::open_at(here(port))
    }

    /// The same to any address.
    ///
    /// # Errors
    /// Nobody accepts it.
    pub fn open_at(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, cid: 0 })
    }

    /// Opens a connection and exchanges ICReq and ICResp.
    ///
    /// # Errors
    /// The target does not answer as it must.
    pub fn greet(port: u16) -> anyhow::Result<Self> {
        Self::greet_at(here(port))
    }

    /// The same with any address.
    ///
    /// # Errors
    /// As [`greet`](Self::greet).
    pub fn greet_at(address: SocketAddr) -> anyhow::Result<Self> {
        let mut queue = Self::open_at(address)?;
        queue.send(&pdu::ic_req())?;
        let answer = queue.receive().context("no answer to ICReq")?;
        ensure!(answer.kind() == pdu::IC_RESP, "ICReq was answered by {answer:?}");
        Ok(queue)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone, or its buffers stay full.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives one PDU without digests.
    ///
    /// # Errors
    /// The connection ends, nothing comes, or what comes is no PDU.
    pub fn receive(&mut self) -> anyhow::Result<Received> {
        let mut header = vec![0; 8];
        self.stream.read_exact(&mut header).context("no PDU")?;
        let (hlen, pdo) = (usize::from(header[2]), usize::from(header[3]));
        let plen = get32(&header, 4) as usize;
        let start = if pdo == 0 { hlen } else { pdo };
        let sound = (8..=start).contains(&hlen) && start <= plen && plen <= PDU_LEN_MAX;
        ensure!(sound, "malformed PDU: {header:?}");
        header.resize(start, 0);
        self.stream.read_exact(&mut header[8..])?;
        header.truncate(hlen);
        let mut data = vec![0; plen - start];
        self.stream.read_exact(&mut data)?;
        Ok(Received { header, data })
    }

    /// Whether the target has ended the connection, in whatever way, within `limit`; what it still
    /// sent is thrown away.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let deadline = std::time::Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
                    if !matches!(error.kind(), WouldBlock | TimedOut | Interrupted) {
                        return true;
                    }
                }
            }
        }
    }

    /// The next command identifier.
    pub fn next_cid(&mut self) -> u16 {
        self.cid = self.cid.wrapping_add(1);
        self.cid
    }

    /// Sends a command without waiting for its end; gives its identifier.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn submit(&mut self, mut command: Command, data: Data<'_>) -> std::io::Result<u16> {
        let cid = self.next_cid();
        put16(&mut command, 2, cid);
        let inside = match data {
            Data::None => &[][..],
            Data::ToHost(len) => {
                point(&mut command, len, TRANSPORT);
                &[]
            }
            Data::FromHost(bytes) => {
                let fits = bytes.len() <= IN_CAPSULE_MAX;
                let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                point(&mut command, len, if fits { IN_CAPSULE } else { TRANSPORT });
                if fits { bytes } else { &[] }
            }
        };
        self.send(&pdu::capsule(&command, inside))?;
        Ok(cid)
    }

    /// Runs one command to its end.
    ///
    /// # Errors
    /// The connection fails, or the target breaks the protocol.
    pub fn run(&mut self, command: Command, data: Data<'_>) -> anyhow::Result<Answer> {
        let cid = self.submit(command, data)?;
        let mut answer = Answer { status: 0, dw0: 0, data: Vec::new() };
        loop {
            let pdu = self.receive()?;
            let about = |at| get16(&pdu.header, at);
            match pdu.kind() {
                pdu::R2T => {
                    ensure!(about(8) == cid, "an R2T for command {}", about(8));
                    self.serve(&pdu.header, data)?;
                }
                pdu::C2H_DATA => {
                    let at = get32(&pdu.header, 12) as usize;
                    ensure!(about(8) == cid && at == answer.data.len(), "data out of place");
                    answer.data.extend(&pdu.data);
                    if pdu.has(pdu::SUCCESS) {
                        return Ok(answer);
                    }
                }
                pdu::CAPSULE_RESP => {
                    ensure!(about(20) == cid, "a response to command {}", about(20));
                    answer.status = about(22) >> 1 & 0x7ff;
                    answer.dw0 = get32(&pdu.header, 8);
                    return Ok(answer);
                }
                _ => bail!("unexpected {pdu:?}"),
            }
        }
    }

    /// Sends what an R2T asks for.
    fn serve(&mut self, r2t: &[u8], data: Data<'_>) -> anyhow::Result<()> {
        let (cid, ttag) = (get16(r2t, 8), get16(r2t, 10));
        let (offset, len) = (get32(r2t, 12), get32(r2t, 16) as usize);
        let Data::FromHost(bytes) = data else { bail!("an R2T for a command without data") };
        let part = bytes.get(offset as usize..).and_then(|rest| rest.get(..len));
        let part = part.context("an R2T beyond the data")?;
        self.send(&pdu::h2c_data(cid, ttag, offset, true, part))?;
        Ok(())
    }

    /// Sends a Connect and gives its answer, good or bad.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn connect(&mut self, connect: &Connect) -> anyhow::Result<Answer> {
        self.run(connect.command(), Data::FromHost(&connect.data()))
    }
}

/// A port of 127.0.0.1.
fn here(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// SGL identifier: data block in the capsule.
pub const IN_CAPSULE: u8 = 0x01;
/// SGL identifier: transport data block.
pub const TRANSPORT: u8 = 0x5a;

/// Sets the data pointer of `command`.
pub fn point(command: &mut Command, len: u32, identifier: u8) {
    put32(command, 32, len);
    command[39] = identifier;
}

/// A namespace's geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its identifier.
    pub nsid: u32,
    /// Its size in blocks.
    pub blocks: u64,
    /// Size of a block, bytes.
    pub block_len: u32,
}

/// A controller with its admin queue and one I/O queue.
#[derive(Debug)]
pub struct Initiator {
    /// The admin queue.
    pub admin: Queue,
    /// The I/O queue.
    pub io: Queue,
    /// The controller's identifier.
    pub cntlid: u16,
}

impl Initiator {
    /// Connects to the default subsystem at `port` of 127.0.0.1.
    ///
    /// # Errors
    /// The target refuses, or does not answer as it must.
    pub fn connect(port: u16) -> anyhow::Result<Self> {
        Self::connect_at(here(port))
    }

    /// The same at any address.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_at(address: SocketAddr) -> anyhow::Result<Self> {
        let (mut admin, cntlid) = Self::enabled_at(address)?;
        let mut io = Queue::greet_at(address)?;
        let connected = io.connect(&Connect::io(cntlid, 1))?;
        ensure!(connected.status == command::OK, "queue 1 was refused: {connected:?}");
        let controller = admin.run(command::identify(1, 0), Data::ToHost(4096))?;
        ensure!(get16(&controller.data, 78) == cntlid, "the controller calls itself another");
        Ok(Self { admin, io, cntlid })
    }

    /// A new controller that is enabled and has its admin queue only.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn enabled(port: u16) -> anyhow::Result<(Queue, u16)> {
        Self::enabled_at(here(port))
    }

    fn enabled_at(address: SocketAddr) -> anyhow::Result<(Queue, u16)> {
        let mut admin = Queue::greet_at(address)?;
        let connected = admin.connect(&Connect::admin())?;
        ensure!(connected.status == command::OK, "the admin queue was refused: {connected:?}");
        // CC: 64-byte submission and 16-byte completion entries, enabled.
        let enabled = admin.run(command::property_set(0x14, 0x0046_0001), Data::None)?;
        ensure!(enabled.status == command::OK, "not enabled: {enabled:?}");
        Ok((admin, connected.dw0 as u16))
    }

    /// The active namespaces.
    ///
    /// # Errors
    /// The target does not answer as it must.
    pub fn namespaces(&mut self) -> anyhow::Result<Vec<Namespace>> {
        let list = self.admin.run(command::identify(2, 0), Data::ToHost(4096))?;
        let ids = list.data.chunks_exact(4).map(|id| get32(id, 0));
        ids.take_while(|nsid| *nsid != 0).map(|nsid| self.namespace(nsid)).collect()
    }

    fn namespace(&mut self, nsid: u32) -> anyhow::Result<Namespace> {
        let data = self.admin.run(command::identify(0, nsid), Data::ToHost(4096))?.data;
        ensure!(data.len() == 4096, "namespace {nsid} does not identify itself");
        let format = usize::from(data[26] & 0xf);
        let shift = data[128 + 4 * format + 2];
        ensure!((9..=16).contains(&shift), "namespace {nsid} has blocks of 2^{shift} bytes");
        let blocks = u64::from(get32(&data, 0)) | u64::from(get32(&data, 4)) << 32;
        Ok(Namespace { nsid, blocks, block_len: 1 << shift })
    }

    /// Writes `data`, a number of whole blocks.
    ///
    /// # Errors
    /// The connection fails; a bad status is in the answer.
    pub fn write(&mut self, on: Namespace, lba: u64, data: &[u8]) -> anyhow::Result<Answer> {
        let blocks = u32::try_from(data.len())? / on.block_len;
        self.io.run(command::io(command::WRITE, on.nsid, lba, blocks), Data::FromHost(data))
    }

    /// Reads `blocks` blocks.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn read(&mut self, on: Namespace, lba: u64, blocks: u32) -> anyhow::Result<Answer> {
        let data = Data::ToHost(blocks * on.block_len);
        self.io.run(command::io(command::READ, on.nsid, lba, blocks), data)
    }

    /// Writes a pattern that is different for every `seed`, reads it back and compares.
    ///
    /// # Errors
    /// Either fails, or the data differs.
    pub fn verify(&mut self, on: Namespace, lba: u64, len: u32, seed: u64) -> anyhow::Result<()> {
        let pattern = pattern(seed, len as usize);
        let written = self.write(on, lba, &pattern)?;
        ensure!(written.status == command::OK, "write at {lba}: status {:#x}", written.status);
        let read = self.read(on, lba, len / on.block_len)?;
        ensure!(read.status == command::OK, "read at {lba}: status {:#x}", read.status);
        ensure!(read.data == pattern, "{len} bytes at {lba} differ from what was written");
        Ok(())
    }
}

/// `len` bytes that look random and follow from `seed`.
#[must_use]
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(random.number().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A small generator of numbers that look random (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that gives the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound.max(1) as u64) as usize
    }
}
