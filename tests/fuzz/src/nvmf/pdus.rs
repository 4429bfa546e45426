use basalt_nvme_spec::fabrics::{Connect, ConnectData};
use basalt_nvme_spec::{Command, SglDescriptor};
use basalt_nvmf::DEFAULT_NQN;
use basalt_nvmf::pdu::wire::{self, CommonHeader, flags, kind};
use basalt_nvmf::pdu::{DIGEST_LEN, Digests, crc32c};
use zerocopy::IntoBytes;

/// The host that everything is named after but the bystander.
const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:fuzzed-host";

/// A PDU whose common header and digests fit the rest.
pub fn pdu(digests: Digests, kind: u8, extra: u8, rest: &[u8], data: &[u8]) -> Vec<u8> {
    let hlen = 8 + rest.len();
    let prefix = hlen + if digests.header { DIGEST_LEN } else { 0 };
    let has_data = !data.is_empty();
    let trailer = if digests.data && has_data { DIGEST_LEN } else { 0 };
    let header_flag = if digests.header { flags::HEADER_DIGEST } else { 0 };
    let data_flag = if trailer > 0 { flags::DATA_DIGEST } else { 0 };
    let common = CommonHeader {
        kind,
        flags: extra | header_flag | data_flag,
        hlen: hlen as u8,
        pdo: if has_data { prefix as u8 } else { 0 },
        plen: ((prefix + data.len() + trailer) as u32).into(),
    };
    let mut bytes = [common.as_bytes(), rest].concat();
    if digests.header {
        bytes.extend(crc32c(&bytes).to_le_bytes());
    }
    bytes.extend_from_slice(data);
    if trailer > 0 {
        bytes.extend(crc32c(data).to_le_bytes());
    }
    bytes
}

/// An ICReq for these digests.
pub fn ic_req(digests: Digests, hpda: u8) -> Vec<u8> {
    let request = wire::IcReq {
        common: CommonHeader { kind: kind::IC_REQ, flags: 0, hlen: 128, pdo: 0, plen: 128.into() },
        pfv: 0.into(),
        hpda,
        digest: u8::from(digests.header) | u8::from(digests.data) << 1,
        maxr2t: 0.into(),
        reserved: [0; 112],
    };
    request.as_bytes().to_vec()
}

/// A command capsule with data.
pub fn capsule(digests: Digests, command: &Command, data: &[u8]) -> Vec<u8> {
    pdu(digests, kind::CAPSULE_CMD, 0, command.as_bytes(), data)
}

/// Data for an R2T.
pub fn h2c_data(digests: Digests, cid: u16, ttag: u16, offset: u32, data: &[u8]) -> Vec<u8> {
    let header = wire::Data {
        common: CommonHeader::default(),
        cccid: cid.into(),
        ttag: ttag.into(),
        datao: offset.into(),
        datal: (data.len() as u32).into(),
        reserved: [0; 4],
    };
    pdu(digests, kind::H2C_DATA, flags::LAST, &header.as_bytes()[8..], data)
}

/// The host's end of the connection.
pub fn term_req(fes: u16) -> Vec<u8> {
    let request = wire::TermReq {
        common: CommonHeader {
            kind: kind::H2C_TERM_REQ,
            flags: 0,
            hlen: 24,
            pdo: 0,
            plen: 32.into(),
        },
        fes: fes.into(),
        fei: 0.into(),
        reserved: [0; 10],
    };
    [request.as_bytes(), &[0; 8]].concat()
}

/// The data of a Connect to the default subsystem.
pub fn connect_data(nqn: &str, host: &str, cntlid: u16) -> ConnectData {
    let mut data = ConnectData { hostid: [9; 16], cntlid: cntlid.into(), ..Default::default() };
    data.subnqn[..nqn.len()].copy_from_slice(nqn.as_bytes());
    data.hostnqn[..host.len()].copy_from_slice(host.as_bytes());
    data
}

/// A Connect of the fuzzed host.
pub fn connect_capsule(digests: Digests, qid: u16, cntlid: u16, cattr: u8) -> Vec<u8> {
    let mut connect = Connect::new(qid, 32, 0, SglDescriptor::in_capsule(0, 1024));
    connect.cattr = cattr;
    let data = connect_data(DEFAULT_NQN, HOST_NQN, cntlid);
    capsule(digests, &connect.into(), data.as_bytes())
}
