//! The controllers' end of a connection: the PDUs they send, well formed.

use basalt_nvme_spec::Completion;
use basalt_nvmf::pdu::Digests;
use basalt_nvmf::pdu::wire::{self, CommonHeader, flags, kind};
use zerocopy::IntoBytes;

use super::pdus::pdu;

/// An ICResp for these digests, with data to the controller aligned to `(cpda + 1) * 4` bytes.
pub fn ic_resp(digests: Digests, cpda: u8) -> Vec<u8> {
    let response = wire::IcResp {
        common: CommonHeader { kind: kind::IC_RESP, flags: 0, hlen: 128, pdo: 0, plen: 128.into() },
        pfv: 0.into(),
        cpda,
        digest: u8::from(digests.header) | u8::from(digests.data) << 1,
        maxh2cdata: 4096.into(),
        reserved: [0; 112],
    };
    response.as_bytes().to_vec()
}

/// A response capsule.
pub fn response(digests: Digests, completion: &Completion) -> Vec<u8> {
    pdu(digests, kind::CAPSULE_RESP, 0, completion.as_bytes(), &[])
}

/// Data of a read, from `offset` bytes on; `extra` are the flags that say what comes then.
pub fn c2h_data(digests: Digests, cid: u16, offset: u32, extra: u8, data: &[u8]) -> Vec<u8> {
    let header = wire::Data {
        common: CommonHeader::default(),
        cccid: cid.into(),
        ttag: 0.into(),
        datao: offset.into(),
        datal: (data.len() as u32).into(),
        reserved: [0; 4],
    };
    pdu(digests, kind::C2H_DATA, extra, &header.as_bytes()[8..], data)
}

/// The last data of a read.
pub fn last_data(digests: Digests, cid: u16, data: &[u8]) -> Vec<u8> {
    c2h_data(digests, cid, 0, flags::LAST, data)
}

/// A wish for data of a write.
pub fn r2t(digests: Digests, cid: u16, offset: u32, len: u32) -> Vec<u8> {
    let header = wire::R2t {
        common: CommonHeader::default(),
        cccid: cid.into(),
        ttag: 7.into(),
        r2to: offset.into(),
        r2tl: len.into(),
        reserved: [0; 4],
    };
    pdu(digests, kind::R2T, 0, &header.as_bytes()[8..], &[])
}

/// The controller's end of the connection.
pub fn c2h_term_req(fes: u16) -> Vec<u8> {
    let mut bytes = super::term_req(fes);
    bytes[0] = kind::C2H_TERM_REQ;
    bytes
}
