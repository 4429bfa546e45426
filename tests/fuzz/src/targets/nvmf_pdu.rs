//! The receiver of NVMe/TCP PDUs alone, which millions of inputs reach.

use basalt_nvmf::pdu::{Admit, DataDigest, Digests, Fault, Limits, Pdu, Receiver, Sink};

use crate::input::Input;
use crate::nvmf::{connect_capsule, h2c_data, ic_req, term_req};
use crate::seed::Seed;

const PLAIN: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };

/// Checks what it is handed.
struct Count {
    digests: Digests,
    left: u32,
}

impl Sink for Count {
    fn begin(&mut self, pdu: &Pdu<'_>, data_len: u32) -> Result<Admit, Fault> {
        self.left = data_len;
        assert!(data_len <= 1 << 16);
        match pdu {
            Pdu::IcReq(_) => Ok(Admit::Negotiated(self.digests)),
            _ => Ok(Admit::Ready),
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        self.left -= bytes.len() as u32;
    }

    fn end(&mut self, _: DataDigest) -> Result<(), Fault> {
        assert_eq!(self.left, 0);
        Ok(())
    }
}

/// Byte 0: digests. Byte 1: how much comes at once. Then the stream.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (mode, chunk) = (input.byte(), usize::from(input.byte()) + 1);
    let digests = Digests { header: mode & 1 != 0, data: mode & 2 != 0 };
    let mut receiver = Receiver::new(Limits { in_capsule: 8192, data: 1 << 16 });
    let mut sink = Count { digests, left: 0 };
    for piece in input.rest().chunks(chunk) {
        let Ok(taken) = receiver.push(piece, &mut sink) else {
            assert!(receiver.header().len() <= 128);
            return;
        };
        assert_eq!(taken, piece.len());
    }
}

/// Whole streams.
pub fn seeds() -> Vec<Seed> {
    [PLAIN, BOTH]
        .map(|digests| {
            let mode = u8::from(digests.header) | u8::from(digests.data) << 1;
            Seed::starting(&[mode, 99])
                .part(&ic_req(digests, 0))
                .part(&connect_capsule(digests, 0, 0xffff, 0))
                .part(&h2c_data(digests, 1, 2, 0, &[1; 1000]))
                .part(&term_req(1))
        })
        .into()
}
