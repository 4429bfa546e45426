use core::marker::PhantomData;

use zerocopy::FromBytes;

use super::parse::{Limits, Shape, ToController};
use super::wire::{COMMON_LEN, CommonHeader, HEADER_MAX};
use super::{Crc, DIGEST_LEN, Digests, Fault, FaultKind, crc32c};

/// Whether a PDU can be taken now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admit {
    /// Go on with its data.
    Ready,
    /// It was an ICReq or ICResp, which has settled the digests.
    Negotiated(Digests),
    /// There is no buffer for its data yet: ask again later.
    Wait,
}

/// How a payload's digest turned out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataDigest {
    /// There was none, or it matches.
    Good,
    /// It does not match: the data is damaged, the stream is not.
    Bad,
}

/// Which PDUs come in on a side, and how they are checked.
pub trait Inbound {
    /// A PDU, header checked.
    type Pdu<'a>;

    /// Checks the common header (§3.6.1). `digests` is `None` until they have been agreed on.
    fn shape(
        header: &CommonHeader,
        digests: Option<Digests>,
        limits: Limits,
    ) -> Result<Shape, Fault>;

    /// The header that `bytes` begin with, if it is whole and nothing is special about the PDU: no
    /// digests, no padding. Gives the PDU, its header's length and its data's. It may miss what
    /// [`Self::shape`] and [`Self::parse`] find.
    #[inline]
    fn plain(
        bytes: &[u8],
        digests: Option<Digests>,
        limits: Limits,
    ) -> Option<(Self::Pdu<'_>, usize, u32)> {
        let _ = (bytes, digests, limits);
        None
    }

    /// Checks the type-specific header: `shape.header_len` bytes that [`Self::shape`] accepted.
    fn parse<'a>(header: &'a [u8], shape: &Shape) -> Result<Self::Pdu<'a>, Fault>;
}

/// Where received PDUs go.
pub trait Sink<I: Inbound = ToController> {
    /// A header is complete and checked; `data_len` bytes of payload follow it.
    fn begin(&mut self, pdu: &I::Pdu<'_>, data_len: u32) -> Result<Admit, Fault>;

    /// The next payload bytes of the PDU begun last. Never more than its `data_len` in total.
    fn data(&mut self, bytes: &[u8]);

    /// The digest of the payload of the PDU begun last was computed: of `data_len` bytes.
    fn digested(&mut self, data_len: u32) {
        let _ = data_len;
    }

    /// The PDU begun last is complete.
    fn end(&mut self, digest: DataDigest) -> Result<(), Fault>;

    /// A PDU without payload has begun and is complete, unless it has to wait.
    #[inline]
    fn bare(&mut self, pdu: &I::Pdu<'_>) -> Result<Admit, Fault> {
        let admit = self.begin(pdu, 0)?;
        if admit != Admit::Wait {
            self.end(DataDigest::Good)?;
        }
        Ok(admit)
    }
}

/// Takes a byte stream in any chunks and finds the PDUs in it.
///
/// ```text
/// Common -8 bytes-> Header -HLEN(+digest)-> Admit -sink is ready-> Pad -> Data -> Digest -> end
///    ^                                       |  ^ wait                                      |
///    +------------------------------------- + --+ ------------------------------------------+
/// any fault -> Dead: what follows is swallowed
/// ```
pub struct Receiver<I: Inbound = ToController> {
    state: State,
    shape: Shape,
    left: u32,
    have: usize,
    header: [u8; HEADER_MAX + DIGEST_LEN],
    trailer: [u8; DIGEST_LEN],
    crc: Crc,
    digests: Option<Digests>,
    limits: Limits,
    inbound: PhantomData<I>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Common,
    Header,
    Admit,
    Pad,
    Data,
    Digest,
    Dead,
}

impl<I: Inbound> Receiver<I> {
    /// At the start of a connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            state: State::Common,
            shape: Shape::default(),
            left: 0,
            have: 0,
            header: [0; HEADER_MAX + DIGEST_LEN],
            trailer: [0; DIGEST_LEN],
            crc: Crc::new(),
            digests: None,
            limits,
            inbound: PhantomData,
        }
    }

    /// What has been received of the current header, digest not counted.
    pub fn header(&self) -> &[u8] {
        let whole = if self.shape.header_len == 0 { COMMON_LEN } else { self.shape.header_len };
        &self.header[..self.have.min(whole)]
    }

    /// Whether it waits for its sink to take a PDU.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Admit
    }

    /// Takes `bytes`; gives how many were consumed, fewer than all only while [`Admit::Wait`].
    ///
    /// After a fault everything is swallowed.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink<I>) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let before = (self.state, at);
            let rest = &bytes[at..];
            let step = match self.take_plain(rest, sink) {
                Some(taken) => taken,
                None => self.step(rest, sink),
            };
            match step {
                Ok(taken) => at += taken,
                Err(fault) => {
                    self.state = State::Dead;
                    return Err(fault);
                }
            }
            // A step that neither moved nor took bytes needs more of them, or a buffer.
            if before == (self.state, at) {
                return Ok(at);
            }
        }
    }

    /// Takes the next PDU's header where it is, if it is whole and plain, and with it a PDU that
    /// has no data; `None` if it is another.
    #[inline]
    fn take_plain(
        &mut self,
        bytes: &[u8],
        sink: &mut impl Sink<I>,
    ) -> Option<Result<usize, Fault>> {
        if self.state != State::Common || self.have > 0 {
            return None;
        }
        let (pdu, header_len, data_len) = I::plain(bytes, self.digests, self.limits)?;
        let bare = data_len == 0;
        let result = if bare { sink.bare(&pdu) } else { sink.begin(&pdu, data_len) };
        if bare && result == Ok(Admit::Ready) {
            return Some(Ok(header_len));
        }
        self.keep(&bytes[..header_len], data_len);
        if result == Ok(Admit::Ready) {
            (self.left, self.state) = (data_len, State::Data);
        }
        Some(result.map(|_| header_len))
    }

    /// Keeps the header of a plain PDU that is not complete, or that somebody will want to see.
    fn keep(&mut self, header: &[u8], data_len: u32) {
        self.header[..header.len()].copy_from_slice(header);
        self.shape = Shape { header_len: header.len(), data_len, ..Shape::default() };
        (self.have, self.state) = (header.len(), State::Admit);
    }

    fn step(&mut self, bytes: &[u8], sink: &mut impl Sink<I>) -> Result<usize, Fault> {
        match self.state {
            State::Common => self.gather_common(bytes),
            State::Header => self.gather_header(bytes),
            State::Admit => self.admit(sink),
            State::Pad => Ok(self.skip_pad(bytes)),
            State::Data => Ok(self.pass_data(bytes, sink)),
            State::Digest => self.finish(bytes, sink),
            State::Dead => Ok(bytes.len()),
        }
    }

    fn gather_common(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let taken = self.gather(bytes, COMMON_LEN);
        if self.have < COMMON_LEN {
            return Ok(taken);
        }
        self.shape = Shape::default();
        let common = CommonHeader::ref_from_bytes(&self.header[..COMMON_LEN])
            .map_err(|_| Fault::new(FaultKind::InvalidHeaderField))?;
        self.shape = I::shape(common, self.digests, self.limits)?;
        self.state = State::Header;
        Ok(taken)
    }

    fn gather_header(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let whole = self.shape.header_len + if self.shape.header_digest { DIGEST_LEN } else { 0 };
        let taken = self.gather(bytes, whole);
        if self.have < whole {
            return Ok(taken);
        }
        if self.shape.header_digest {
            self.check_header_digest()?;
        }
        self.state = State::Admit;
        Ok(taken)
    }

    fn check_header_digest(&self) -> Result<(), Fault> {
        let (header, rest) = self.header.split_at(self.shape.header_len);
        let mut received = [0; DIGEST_LEN];
        received.copy_from_slice(&rest[..DIGEST_LEN]);
        let received = u32::from_le_bytes(received);
        if received == crc32c(header) {
            return Ok(());
        }
        Err(Fault { kind: FaultKind::HeaderDigest, info: received })
    }

    fn admit(&mut self, sink: &mut impl Sink<I>) -> Result<usize, Fault> {
        let pdu = I::parse(&self.header[..self.shape.header_len], &self.shape)?;
        match sink.begin(&pdu, self.shape.data_len)? {
            Admit::Wait => return Ok(0),
            Admit::Ready => {}
            Admit::Negotiated(digests) => self.digests = Some(digests),
        }
        if self.shape.data_digest {
            self.crc = Crc::new();
        }
        self.left = self.shape.pad;
        self.state = State::Pad;
        Ok(0)
    }

    fn skip_pad(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.left as usize);
        self.left -= taken as u32;
        if self.left == 0 {
            self.left = self.shape.data_len;
            self.state = State::Data;
        }
        taken
    }

    fn pass_data(&mut self, bytes: &[u8], sink: &mut impl Sink<I>) -> usize {
        let taken = bytes.len().min(self.left as usize);
        if taken > 0 {
            let bytes = &bytes[..taken];
            if self.shape.data_digest {
                self.crc.update(bytes);
            }
            sink.data(bytes);
            self.left -= taken as u32;
        }
        if self.left == 0 {
            self.have = 0;
            self.state = State::Digest;
        }
        taken
    }

    fn finish(&mut self, bytes: &[u8], sink: &mut impl Sink<I>) -> Result<usize, Fault> {
        let mut taken = 0;
        let mut digest = DataDigest::Good;
        if self.shape.data_digest {
            taken = bytes.len().min(DIGEST_LEN - self.have);
            self.trailer[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            if self.have < DIGEST_LEN {
                return Ok(taken);
            }
            if u32::from_le_bytes(self.trailer) != self.crc.clone().finish() {
                digest = DataDigest::Bad;
            }
            sink.digested(self.shape.data_len);
        }
        self.have = self.shape.header_len;
        sink.end(digest)?;
        self.have = 0;
        self.shape = Shape::default();
        self.state = State::Common;
        Ok(taken)
    }

    fn gather(&mut self, bytes: &[u8], whole: usize) -> usize {
        let taken = bytes.len().min(whole - self.have);
        self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        taken
    }
}
