//! What a host receives, checked once, here.

use core::mem::offset_of;

use super::parse::{DataRule, check_data, exact, view, with_data};
use super::wire::{self, CommonHeader, flags, kind};
use super::{Digests, Fault, FaultKind, Inbound, Limits, Shape};

/// What a host receives.
#[derive(Debug)]
pub enum ToHost {}

/// A checked ICResp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcResp {
    /// Alignment of data to the controller, bytes: 4 to 128.
    pub data_align: usize,
    /// Digests in use from now on.
    pub digests: Digests,
    /// Data of one H2CData PDU at most, bytes; at least 4096.
    pub h2c_data_max: u32,
}

/// A checked C2HData header. Whether it fits a command is for the queue to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct C2hData {
    /// Command identifier.
    pub cid: u16,
    /// Offset in the command's data, bytes.
    pub offset: u32,
    /// Length, bytes.
    pub len: u32,
    /// What the controller says of the rest.
    pub rest: DataRest,
}

/// What comes after a C2HData PDU (§3.6.2.9, LAST_PDU and SUCCESS).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataRest {
    /// More data.
    Data,
    /// The response.
    Response,
    /// Nothing: the command has succeeded.
    Nothing,
}

/// A checked R2T. Whether it fits a command is for the queue to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadyToTransfer {
    /// Command identifier.
    pub cid: u16,
    /// What the controller calls the transfer.
    pub ttag: u16,
    /// Offset in the command's data, bytes.
    pub offset: u32,
    /// Length asked for, bytes.
    pub len: u32,
}

/// A PDU a controller may send, header checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FromController<'a> {
    /// Initialize Connection Response.
    IcResp(IcResp),
    /// The controller ends the connection; its reason (FES).
    TermReq(u16),
    /// Response capsule: the completion queue entry, unchecked.
    Response(&'a [u8; 16]),
    /// Data of a command.
    Data(C2hData),
    /// The controller wants data of a command.
    R2t(ReadyToTransfer),
}

/// Smallest MAXH2CDATA there may be, bytes (§3.6.2.3).
const H2C_DATA_MIN: u32 = 4096;

impl Inbound for ToHost {
    type Pdu<'a> = FromController<'a>;

    fn shape(
        header: &CommonHeader,
        digests: Option<Digests>,
        limits: Limits,
    ) -> Result<Shape, Fault> {
        let expected = match header.kind {
            kind::IC_RESP => size_of::<wire::IcResp>(),
            kind::C2H_TERM_REQ => size_of::<wire::TermReq>(),
            kind::CAPSULE_RESP => size_of::<wire::CapsuleResp>(),
            kind::C2H_DATA => size_of::<wire::Data>(),
            kind::R2T => size_of::<wire::R2t>(),
            _ => return Err(Fault::field(offset_of!(CommonHeader, kind))),
        };
        let out_of_turn = match header.kind {
            kind::C2H_TERM_REQ => false,
            kind::IC_RESP => digests.is_some(),
            _ => digests.is_none(),
        };
        if out_of_turn {
            return Err(Fault::new(FaultKind::Sequence));
        }
        if usize::from(header.hlen) != expected {
            return Err(Fault::field(offset_of!(CommonHeader, hlen)));
        }
        let digests = digests.unwrap_or_default();
        match header.kind {
            kind::IC_RESP => exact(header, expected, expected),
            kind::C2H_TERM_REQ => exact(header, expected, expected + wire::HEADER_MAX),
            kind::C2H_DATA => with_data(header, digests, DataRule::Needed(limits.data)),
            _ => with_data(header, digests, DataRule::None),
        }
    }

    fn parse<'a>(header: &'a [u8], shape: &Shape) -> Result<FromController<'a>, Fault> {
        let malformed = Fault::field(offset_of!(CommonHeader, hlen));
        let &[kind, ..] = header else { return Err(malformed) };
        match kind {
            kind::IC_RESP => ic_resp(view(header).ok_or(malformed)?),
            kind::C2H_TERM_REQ => {
                let request: &wire::TermReq = view(header).ok_or(malformed)?;
                Ok(FromController::TermReq(request.fes.get()))
            }
            kind::CAPSULE_RESP => {
                let capsule: &wire::CapsuleResp = view(header).ok_or(malformed)?;
                Ok(FromController::Response(&capsule.cqe))
            }
            kind::R2T => r2t(view(header).ok_or(malformed)?),
            _ => c2h_data(view(header).ok_or(malformed)?, shape),
        }
    }
}

fn ic_resp(response: &wire::IcResp) -> Result<FromController<'static>, Fault> {
    const CPDA_MAX: u8 = 31;
    if response.pfv.get() != 0 {
        return Err(Fault::unsupported(offset_of!(wire::IcResp, pfv)));
    }
    if response.cpda > CPDA_MAX {
        return Err(Fault::field(offset_of!(wire::IcResp, cpda)));
    }
    let h2c_data_max = response.maxh2cdata.get();
    if h2c_data_max < H2C_DATA_MIN {
        return Err(Fault::field(offset_of!(wire::IcResp, maxh2cdata)));
    }
    Ok(FromController::IcResp(IcResp {
        data_align: (usize::from(response.cpda) + 1) * 4,
        digests: Digests { header: response.digest & 1 != 0, data: response.digest & 2 != 0 },
        h2c_data_max,
    }))
}

fn r2t(r2t: &wire::R2t) -> Result<FromController<'static>, Fault> {
    if r2t.r2tl.get() == 0 {
        return Err(Fault::field(offset_of!(wire::R2t, r2tl)));
    }
    Ok(FromController::R2t(ReadyToTransfer {
        cid: r2t.cccid.get(),
        ttag: r2t.ttag.get(),
        offset: r2t.r2to.get(),
        len: r2t.r2tl.get(),
    }))
}

fn c2h_data(data: &wire::Data, shape: &Shape) -> Result<FromController<'static>, Fault> {
    check_data(data, shape)?;
    let is_last = data.common.flags & flags::LAST != 0;
    let rest = match data.common.flags & flags::SUCCESS != 0 {
        // Success cannot come before the end (§3.6.2.9).
        true if !is_last => return Err(Fault::field(offset_of!(CommonHeader, flags))),
        true => DataRest::Nothing,
        false if is_last => DataRest::Response,
        false => DataRest::Data,
    };
    let (cid, offset, len) = (data.cccid.get(), data.datao.get(), data.datal.get());
    Ok(FromController::Data(C2hData { cid, offset, len, rest }))
}
