//! NVMe commands that are passed on as they are.

use alloc::vec::Vec;

use super::{Bench, Medium, pattern};
use crate::{Channel, Io, IoError, IoStatus, NvmePassthru, Op, RejectReason, SgList};

// NVM command set 1.0 §3.1 and base specification 2.0 §5.
const WRITE: u32 = 0x01;
const READ: u32 = 0x02;
const VENDOR: u32 = 0x7f;
const IDENTIFY: u32 = 0x06;
const DELETE_IO_SQ: u32 = 0x00;
/// Base specification 2.0, figure 93: Invalid Command Opcode.
const INVALID_OPCODE: u8 = 0x01;

impl Bench<'_> {
    pub(super) fn commands_are_passed_on_or_refused(&mut self) {
        let mut channel = self.channel();
        for op in [Op::NvmeIo, Op::NvmeAdmin] {
            if self.descriptor.allows(op) {
                self.refused(&mut channel, Io::new(op, 0, 0, 0), RejectReason::BadBuffer);
            } else {
                let io = Io::nvme(op, NvmePassthru::default(), 0);
                self.refused(&mut channel, io, RejectReason::Unsupported);
            }
        }
        if self.descriptor.allows(Op::NvmeIo) {
            self.reads_and_writes_are_passed_on(&mut channel);
            self.a_command_that_is_no_command_is_refused(&mut channel);
        }
        if self.descriptor.allows(Op::NvmeAdmin) {
            self.the_controller_answers(&mut channel);
        }
    }

    fn reads_and_writes_are_passed_on(&mut self, channel: &mut Channel) {
        let bytes = pattern(self.block_size(), 77);
        let (status, _) = self.send(channel, Op::NvmeIo, command(WRITE, 20, 1), &bytes);
        assert_eq!(status, Ok(()));
        self.expect(channel, 20, &bytes);
        let none = alloc::vec![0; bytes.len()];
        let (status, read) = self.send(channel, Op::NvmeIo, command(READ, 20, 1), &none);
        assert_eq!(status, Ok(()));
        assert!(self.medium == Medium::Forgets || read == bytes, "a read by command differs");
        let (status, _) =
            self.send(channel, Op::NvmeIo, command(READ, self.num_blocks(), 1), &none);
        assert!(matches!(status, Err(IoError::Nvme { sct: 0, sc: 0x80, .. })), "{status:?}");
    }

    fn a_command_that_is_no_command_is_refused(&mut self, channel: &mut Channel) {
        let before = self.read(channel, 0, 4);
        let io = self.passthru(Op::NvmeIo, command(VENDOR, 0, 1), &pattern(self.block_size(), 1));
        match channel.submit(io) {
            Ok(()) => {
                let status = self.drain(channel, 1)[0].status;
                let refused = |sc| sc == INVALID_OPCODE;
                assert!(
                    matches!(status, Err(IoError::Nvme { sc, .. }) if refused(sc)),
                    "{status:?}"
                );
            }
            // By a device that could not be told how long the data is.
            Err(refused) => assert_eq!(refused.reason, RejectReason::Unsupported),
        }
        assert!(self.read(channel, 0, 4) == before, "it had an effect");
    }

    fn the_controller_answers(&mut self, channel: &mut Channel) {
        let mut identify = [0; 16];
        (identify[0], identify[10]) = (IDENTIFY, 1);
        let (status, page) = self.send(channel, Op::NvmeAdmin, identify, &[0; 4096]);
        assert_eq!(status, Ok(()));
        assert_eq!((page.len(), page[512], page[513]), (4096, 0x66, 0x44), "SQES and CQES");
        // What the driver lives by is not for others.
        let (status, _) = self.send(channel, Op::NvmeAdmin, [DELETE_IO_SQ; 16], &[]);
        assert!(matches!(status, Err(IoError::Nvme { sc: INVALID_OPCODE, .. })), "{status:?}");
        self.read(channel, 0, 1);
    }

    fn passthru(&self, op: Op, command: [u32; 16], data: &[u8]) -> Io {
        let data = (!data.is_empty()).then(|| self.filled(data));
        Io::nvme(op, NvmePassthru { command, data, result: 0 }, 9)
    }

    /// Sends a command; how it ended, and its data then.
    fn send(
        &mut self,
        channel: &mut Channel,
        op: Op,
        command: [u32; 16],
        data: &[u8],
    ) -> (IoStatus, Vec<u8>) {
        let io = self.passthru(op, command, data);
        let io = self.finish(channel, io);
        let SgList::Nvme(passthru) = io.data else { panic!("the command did not come back") };
        let data = passthru.data.map(|data| data.as_slice().to_vec());
        (io.status, data.unwrap_or_default())
    }
}

/// A command on a range of blocks.
fn command(opcode: u32, lba: u64, blocks: u32) -> [u32; 16] {
    let mut command = [0; 16];
    command[0] = opcode;
    (command[10], command[11], command[12]) = (lba as u32, (lba >> 32) as u32, blocks - 1);
    command
}
