//! From a header's bytes to a value: every field checked once, here.

use core::mem::offset_of;

use zerocopy::FromBytes;

use super::wire::{self, CommonHeader, flags, kind};
use super::{DIGEST_LEN, Digests, Fault, FaultKind, Inbound};

/// What this side announced, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest data in a command capsule (from IOCCSZ).
    pub in_capsule: u32,
    /// Largest data in a data PDU: MAXH2CDATA, or for a host all that a command moves.
    pub data: u32,
}

/// Where the parts of a PDU lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Header length in bytes, digest not counted.
    pub header_len: usize,
    /// Whether a header digest follows.
    pub header_digest: bool,
    /// Bytes between header (with digest) and data.
    pub pad: u32,
    /// Data bytes.
    pub data_len: u32,
    /// Whether a data digest follows.
    pub data_digest: bool,
}

/// A checked ICReq.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcReq {
    /// Alignment of data to the host, bytes: 4 to 128.
    pub data_align: usize,
    /// Digests the host wants.
    pub digests: Digests,
    /// R2Ts a command may have outstanding, at least 1.
    pub r2t_max: u32,
}

/// A checked H2CData header. Whether it fits a transfer is for the connection to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct H2cData {
    /// Command identifier.
    pub cid: u16,
    /// Transfer tag.
    pub ttag: u16,
    /// Offset in the command's data, bytes.
    pub offset: u32,
    /// Length, bytes.
    pub len: u32,
    /// Whether the host says it is the transfer's last.
    pub last: bool,
}

/// A PDU a host may send, header checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pdu<'a> {
    /// Initialize Connection Request.
    IcReq(IcReq),
    /// The host ends the connection; its reason (FES).
    TermReq(u16),
    /// Command capsule: the submission queue entry, unchecked.
    Command(&'a [u8; 64]),
    /// Data for an R2T.
    Data(H2cData),
}

/// Alignment in bytes we ask for data to us (CPDA 0).
const DATA_ALIGN: usize = 4;

/// What a controller receives.
#[derive(Debug)]
pub enum ToController {}

impl Inbound for ToController {
    type Pdu<'a> = Pdu<'a>;

    fn shape(
        header: &CommonHeader,
        digests: Option<Digests>,
        limits: Limits,
    ) -> Result<Shape, Fault> {
        shape(header, digests, limits)
    }

    #[inline]
    fn plain(
        bytes: &[u8],
        digests: Option<Digests>,
        limits: Limits,
    ) -> Option<(Pdu<'_>, usize, u32)> {
        const HLEN: u8 = size_of::<wire::CapsuleCmd>() as u8;
        let (capsule, _) = wire::CapsuleCmd::ref_from_prefix(bytes).ok()?;
        let CommonHeader { kind, flags, hlen, pdo, plen } = capsule.common;
        let data_len = plen.get().checked_sub(HLEN.into())?;
        let is_plain = digests? == Digests::default()
            && kind == kind::CAPSULE_CMD
            && hlen == HLEN
            && flags & (flags::HEADER_DIGEST | flags::DATA_DIGEST) == 0
            && (data_len == 0 || pdo == HLEN && data_len <= limits.in_capsule);
        is_plain.then_some((Pdu::Command(&capsule.sqe), HLEN.into(), data_len))
    }

    fn parse<'a>(header: &'a [u8], shape: &Shape) -> Result<Pdu<'a>, Fault> {
        parse(header, shape)
    }
}

/// Checks the common header (§3.6.1). `digests` is `None` until the ICReq has been answered.
fn shape(header: &CommonHeader, digests: Option<Digests>, limits: Limits) -> Result<Shape, Fault> {
    let expected = match header.kind {
        kind::IC_REQ => size_of::<wire::IcReq>(),
        kind::H2C_TERM_REQ => size_of::<wire::TermReq>(),
        kind::CAPSULE_CMD => size_of::<wire::CapsuleCmd>(),
        kind::H2C_DATA => size_of::<wire::Data>(),
        _ => return Err(Fault::field(offset_of!(CommonHeader, kind))),
    };
    let out_of_turn = match header.kind {
        kind::H2C_TERM_REQ => false,
        kind::IC_REQ => digests.is_some(),
        _ => digests.is_none(),
    };
    if out_of_turn {
        return Err(Fault::new(FaultKind::Sequence));
    }
    if usize::from(header.hlen) != expected {
        return Err(Fault::field(offset_of!(CommonHeader, hlen)));
    }
    match header.kind {
        kind::IC_REQ => exact(header, expected, expected),
        kind::H2C_TERM_REQ => exact(header, expected, expected + wire::HEADER_MAX),
        kind::CAPSULE_CMD => {
            with_data(header, digests.unwrap_or_default(), DataRule::Optional(limits.in_capsule))
        }
        _ => with_data(header, digests.unwrap_or_default(), DataRule::Needed(limits.data)),
    }
}

/// A PDU without digests whose PLEN lies in `min..=max`; what follows the header is not data.
pub(super) fn exact(header: &CommonHeader, min: usize, max: usize) -> Result<Shape, Fault> {
    let plen = header.plen.get() as usize;
    if plen < min || plen > max {
        return Err(Fault::field(offset_of!(CommonHeader, plen)));
    }
    Ok(Shape { header_len: min, pad: (plen - min) as u32, ..Shape::default() })
}

/// Whether a PDU carries data, and how many bytes at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DataRule {
    /// None.
    None,
    /// It may.
    Optional(u32),
    /// Its header says how many.
    Needed(u32),
}

/// A PDU that may have digests, and data by `rule`.
pub(super) fn with_data(
    header: &CommonHeader,
    digests: Digests,
    rule: DataRule,
) -> Result<Shape, Fault> {
    if (header.flags & flags::HEADER_DIGEST != 0) != digests.header {
        return Err(Fault::field(offset_of!(CommonHeader, flags)));
    }
    let header_len = usize::from(header.hlen);
    let prefix = header_len + if digests.header { DIGEST_LEN } else { 0 };
    let plen = header.plen.get() as usize;
    if plen < prefix || plen > prefix && rule == DataRule::None {
        return Err(Fault::field(offset_of!(CommonHeader, plen)));
    }
    let bare = Shape { header_len, header_digest: digests.header, ..Shape::default() };
    let data_len_max = match rule {
        DataRule::None => return Ok(bare),
        DataRule::Optional(_) if plen == prefix => return Ok(bare),
        DataRule::Optional(max) | DataRule::Needed(max) => max,
    };
    if (header.flags & flags::DATA_DIGEST != 0) != digests.data {
        return Err(Fault::field(offset_of!(CommonHeader, flags)));
    }
    let pdo = usize::from(header.pdo);
    if pdo < prefix || !pdo.is_multiple_of(DATA_ALIGN) || pdo > plen {
        return Err(Fault::field(offset_of!(CommonHeader, pdo)));
    }
    let trailer = if digests.data { DIGEST_LEN } else { 0 };
    let Some(data_len) = (plen - pdo).checked_sub(trailer) else {
        return Err(Fault::field(offset_of!(CommonHeader, plen)));
    };
    if data_len > data_len_max as usize {
        return Err(Fault::new(FaultKind::DataLimit));
    }
    let pad = (pdo - prefix) as u32;
    Ok(Shape { pad, data_len: data_len as u32, data_digest: digests.data, ..bare })
}

fn parse<'a>(header: &'a [u8], shape: &Shape) -> Result<Pdu<'a>, Fault> {
    let malformed = Fault::field(offset_of!(CommonHeader, hlen));
    let &[kind, ..] = header else { return Err(malformed) };
    match kind {
        kind::IC_REQ => ic_req(view(header).ok_or(malformed)?),
        kind::H2C_TERM_REQ => {
            let request: &wire::TermReq = view(header).ok_or(malformed)?;
            Ok(Pdu::TermReq(request.fes.get()))
        }
        kind::CAPSULE_CMD => {
            let capsule: &wire::CapsuleCmd = view(header).ok_or(malformed)?;
            Ok(Pdu::Command(&capsule.sqe))
        }
        _ => h2c_data(view(header).ok_or(malformed)?, shape),
    }
}

pub(super) fn view<T>(bytes: &[u8]) -> Option<&T>
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    T::ref_from_bytes(bytes).ok()
}

fn ic_req(request: &wire::IcReq) -> Result<Pdu<'static>, Fault> {
    const HPDA_MAX: u8 = 31;
    if request.pfv.get() != 0 {
        return Err(Fault::unsupported(offset_of!(wire::IcReq, pfv)));
    }
    if request.hpda > HPDA_MAX {
        return Err(Fault::field(offset_of!(wire::IcReq, hpda)));
    }
    Ok(Pdu::IcReq(IcReq {
        data_align: (usize::from(request.hpda) + 1) * 4,
        digests: Digests { header: request.digest & 1 != 0, data: request.digest & 2 != 0 },
        r2t_max: request.maxr2t.get().saturating_add(1),
    }))
}

/// Whether a data PDU has as much data as it says, and some.
pub(super) fn check_data(data: &wire::Data, shape: &Shape) -> Result<(), Fault> {
    if data.datal.get() != shape.data_len {
        return Err(Fault::field(offset_of!(CommonHeader, plen)));
    }
    if shape.data_len == 0 {
        return Err(Fault::field(offset_of!(wire::Data, datal)));
    }
    Ok(())
}

fn h2c_data(data: &wire::Data, shape: &Shape) -> Result<Pdu<'static>, Fault> {
    check_data(data, shape)?;
    Ok(Pdu::Data(H2cData {
        cid: data.cccid.get(),
        ttag: data.ttag.get(),
        offset: data.datao.get(),
        len: data.datal.get(),
        last: data.common.flags & flags::LAST != 0,
    }))
}
