//! End-to-end protection as the controller sees to it (NVM command set 1.0 §5.2).

use basalt_nvme_spec::{Command, IoFlags, Status};
use crc::{CRC_16_T10_DIF, Crc};

use super::state::{Namespace, State};

static GUARD: Crc<u16> = Crc::<u16>::new(&CRC_16_T10_DIF);

/// What is kept with a protected block.
pub(super) struct Tuple {
    guard: u16,
    reference: u32,
}

impl State {
    /// Whether a command on a range of a protected namespace leaves its eight bytes per block to
    /// the controller; one that does not would move them to nowhere.
    pub(super) fn check_protection(&mut self, command: &Command) -> Result<(), Status> {
        let namespace = self.namespace(command.nsid.get());
        let protected = namespace.is_some_and(|namespace| namespace.config.protection != 0);
        if protected && !command.io_flags().contains(IoFlags::PRACT) {
            self.violate(String::from("protection information without a place for it"));
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        Ok(())
    }
}

impl Namespace {
    /// Protects the blocks that a command has written, which are good now.
    pub(super) fn protect(&mut self, command: &Command) {
        let blocks = command.lba()..command.lba() + u64::from(command.blocks());
        self.bad.retain(|bad| !blocks.contains(bad));
        if self.config.protection == 0 {
            return;
        }
        for block in 0..u64::from(command.blocks()) {
            let lba = command.lba() + block;
            let reference = command.cdw14.get().wrapping_add(block as u32);
            let guard = self.guard(lba);
            self.protection.insert(lba, Tuple { guard, reference });
        }
    }

    /// Checks what a command is to read, as far as it asks for that.
    pub(super) fn check(&self, command: &Command) -> Result<(), Status> {
        let flags = command.io_flags();
        let blocks = command.lba()..command.lba() + u64::from(command.blocks());
        if self.bad.range(blocks).next().is_some() {
            return Err(Status::UNRECOVERED_READ);
        }
        for block in 0..u64::from(command.blocks()) {
            let lba = command.lba() + block;
            // A block that was never written is not checked (§5.2.1.5).
            let Some(Tuple { guard, reference }) = self.protection.get(&lba) else { continue };
            if flags.contains(IoFlags::PRCHK_GUARD) && *guard != self.guard(lba) {
                return Err(Status::GUARD_CHECK.with_dnr());
            }
            let expected = command.cdw14.get().wrapping_add(block as u32);
            let tagged = self.config.protection < 3 && flags.contains(IoFlags::PRCHK_REFERENCE);
            if tagged && *reference != expected {
                return Err(Status::REFERENCE_TAG_CHECK.with_dnr());
            }
        }
        Ok(())
    }

    /// Moves a block with all that belongs to it.
    pub(super) fn move_block(&mut self, from: u64, to: u64) {
        let size = self.config.block_size as usize;
        let start = from as usize * size;
        self.data.copy_within(start..start + size, to as usize * size);
        if let Some(tuple) = self.protection.remove(&from) {
            self.protection.insert(to, tuple);
        }
    }

    fn guard(&self, lba: u64) -> u16 {
        let size = self.config.block_size as usize;
        let start = lba as usize * size;
        GUARD.checksum(&self.data[start..start + size])
    }
}
