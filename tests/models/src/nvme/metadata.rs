//! Data and metadata of blocks on their way between memory and medium (NVM command set 1.0 §5.1).

use std::ops::Range;

use basalt_env::PhysAddr;
use basalt_nvme_spec::{Command, IoFlags, Status};

use super::state::{Namespace, State};
use super::{MetadataPlace, NamespaceConfig};

/// What a command moves of its blocks.
pub(super) struct Blocks {
    pub(super) data: Vec<u8>,
    pub(super) metadata: Vec<u8>,
}

impl NamespaceConfig {
    /// Metadata bytes of each block that a command moves; none if the controller adds them.
    pub(super) fn moved(&self, command: &Command) -> usize {
        let added = self.protection != 0 && self.metadata_size == 8;
        let is_stripped = added && command.io_flags().contains(IoFlags::PRACT);
        if is_stripped { 0 } else { self.metadata_size.into() }
    }
}

impl Namespace {
    /// The metadata of a range of blocks.
    pub(super) fn metadata_range(&self, command: &Command) -> Range<usize> {
        let size = u64::from(self.config.metadata_size);
        let end = command.lba() + u64::from(command.blocks());
        (command.lba() * size) as usize..(end * size) as usize
    }
}

impl State {
    /// Brings what is to be written to the command's blocks, or compared with them.
    pub(super) fn fetch_blocks(
        &mut self,
        config: NamespaceConfig,
        command: &Command,
    ) -> Result<Blocks, Status> {
        let (size, count) = (config.block_size as usize, command.blocks() as usize);
        let (mut data, moved) = (vec![0; size * count], config.moved(command));
        let mut metadata = vec![0; moved * count];
        if moved == 0 {
            self.fetch_data(command, &mut data)?;
        } else if config.metadata_place == MetadataPlace::Separate {
            self.fetch_data(command, &mut data)?;
            let at = self.metadata_pointer(command)?;
            self.bus.read(at, &mut metadata).map_err(|_| self.outside(at.as_u64()))?;
        } else {
            let mut both = vec![0; (size + moved) * count];
            self.fetch_data(command, &mut both)?;
            for (block, bytes) in both.chunks_exact(size + moved).enumerate() {
                data[block * size..][..size].copy_from_slice(&bytes[..size]);
                metadata[block * moved..][..moved].copy_from_slice(&bytes[size..]);
            }
        }
        Ok(Blocks { data, metadata })
    }

    /// Delivers what was read of the command's blocks.
    pub(super) fn send_blocks(
        &mut self,
        config: NamespaceConfig,
        command: &Command,
        Blocks { data, metadata }: &Blocks,
    ) -> Result<(), Status> {
        let (size, moved) = (config.block_size as usize, config.moved(command));
        if moved == 0 {
            return self.send_data(command, data);
        }
        if config.metadata_place == MetadataPlace::Separate {
            self.send_data(command, data)?;
            let at = self.metadata_pointer(command)?;
            return self.bus.write(at, metadata).map_err(|_| self.outside(at.as_u64()));
        }
        let blocks = data.chunks_exact(size).zip(metadata.chunks_exact(moved));
        let both: Vec<u8> = blocks.flat_map(|(data, metadata)| [data, metadata].concat()).collect();
        self.send_data(command, &both)
    }

    fn metadata_pointer(&mut self, command: &Command) -> Result<PhysAddr, Status> {
        let at = command.mptr.get();
        if at == 0 || !at.is_multiple_of(4) {
            self.violate(format!("metadata pointer {at:#x}"));
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        Ok(PhysAddr::new(at))
    }
}
