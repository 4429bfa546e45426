use basalt_env::PhysAddr;
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{
    Command, CopyRange, DsmAttributes, DsmRange, NSID_ALL, NvmOpcode, SglDescriptor, Status,
};
use zerocopy::{FromZeros, IntoBytes};

use super::MetadataPlace;
use super::metadata::Blocks;
use super::prp::walk;
use super::state::{Namespace, State};

impl Namespace {
    /// The bytes of a range of blocks.
    fn range(&self, lba: u64, blocks: u64) -> Result<std::ops::Range<usize>, Status> {
        let end = lba.checked_add(blocks).ok_or(Status::LBA_OUT_OF_RANGE)?;
        if end > self.config.blocks {
            return Err(Status::LBA_OUT_OF_RANGE.with_dnr());
        }
        let size = u64::from(self.config.block_size);
        Ok((lba * size) as usize..(end * size) as usize)
    }
}

impl State {
    pub(super) fn io_command(&mut self, command: &Command, corrupt: bool) -> Result<(), Status> {
        self.check_sanitized()?;
        if command.uses_sgl() && !self.config.sgls {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        match NvmOpcode(command.opcode) {
            NvmOpcode::FLUSH if command.nsid.get() == NSID_ALL => Ok(()),
            NvmOpcode::FLUSH => self.exists(command).map(drop),
            NvmOpcode::READ => self.read(command, corrupt),
            NvmOpcode::WRITE => self.write(command),
            NvmOpcode::COMPARE if self.config.oncs.contains(Oncs::COMPARE) => self.compare(command),
            NvmOpcode::WRITE_ZEROES if self.config.oncs.contains(Oncs::WRITE_ZEROES) => {
                self.check_protection(command)?;
                self.check_dataless(command)?;
                self.write_to_zone(command)?;
                self.zero(command, command.lba(), command.blocks().into())?;
                self.write_metadata(command, &[]);
                self.protect(command);
                Ok(())
            }
            NvmOpcode::VERIFY if self.config.oncs.contains(Oncs::VERIFY) => {
                self.check_dataless(command)?;
                self.exists(command)?.range(command.lba(), command.blocks().into())?;
                self.check_protection(command)?;
                self.exists(command)?.check(command)
            }
            NvmOpcode::WRITE_UNCORRECTABLE
                if self.config.oncs.contains(Oncs::WRITE_UNCORRECTABLE) =>
            {
                self.check_dataless(command)?;
                self.exists(command)?.range(command.lba(), command.blocks().into())?;
                let blocks = command.lba()..command.lba() + u64::from(command.blocks());
                let namespace = self.namespace_mut(command.nsid.get());
                namespace.into_iter().for_each(|ns| ns.bad.extend(blocks.clone()));
                Ok(())
            }
            NvmOpcode::ZONE_SEND => self.zone_send(command),
            NvmOpcode::ZONE_RECEIVE => self.zone_receive(command),
            NvmOpcode::COPY if self.config.oncs.contains(Oncs::COPY) => self.copy(command),
            NvmOpcode::DATASET_MANAGEMENT
                if self.config.oncs.contains(Oncs::DATASET_MANAGEMENT) =>
            {
                self.dataset_management(command)
            }
            _ => Err(Status::INVALID_OPCODE.with_dnr()),
        }
    }

    /// A Verify or Write Zeroes must name no more than the controller says.
    fn check_dataless(&mut self, command: &Command) -> Result<(), Status> {
        let size = self.exists(command)?.config.block_size;
        let bytes = u64::from(command.blocks()) * u64::from(size);
        if self.config.dataless_max != 0 && bytes > 4096 << self.config.dataless_max {
            self.violate(format!("{bytes} bytes in one command {:#x}", command.opcode));
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        Ok(())
    }

    fn copy(&mut self, command: &Command) -> Result<(), Status> {
        if command.copy_format() != 0 || command.copy_ranges() != 1 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let mut range = CopyRange::new_zeroed();
        self.fetch_data(command, range.as_mut_bytes())?;
        if range.count() > self.config.range_max.into() {
            self.violate(format!("a copy of {} blocks", range.count()));
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let namespace = self.exists(command)?;
        let from = namespace.range(range.lba.get(), range.count().into())?;
        let to = namespace.range(command.lba(), range.count().into())?;
        if from.start < to.end && to.start < from.end {
            self.violate(String::from("a copy to where it is from"));
        }
        let data = self.bytes(command, from)?.to_vec();
        self.bytes(command, to)?.copy_from_slice(&data);
        Ok(())
    }

    fn exists(&self, command: &Command) -> Result<&Namespace, Status> {
        self.namespace(command.nsid.get()).ok_or(Status::INVALID_NAMESPACE.with_dnr())
    }

    /// The bytes a read or write names, checked against size and MDTS.
    fn extent(&mut self, command: &Command) -> Result<std::ops::Range<usize>, Status> {
        let (boundary, last) = (u64::from(self.config.boundary), u64::from(command.blocks()) - 1);
        if boundary != 0 && command.lba() % boundary + last >= boundary {
            self.crossings += 1;
        }
        let namespace = self.exists(command)?;
        let range = namespace.range(command.lba(), command.blocks().into())?;
        let limit = 4096usize.checked_shl(self.config.mdts.into()).unwrap_or(usize::MAX);
        let in_line = match namespace.config.metadata_place {
            MetadataPlace::InLine => namespace.config.moved(command) * command.blocks() as usize,
            MetadataPlace::Separate => 0,
        };
        if self.config.mdts != 0 && range.len() + in_line > limit {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        Ok(range)
    }

    fn read(&mut self, command: &Command, corrupt: bool) -> Result<(), Status> {
        let range = self.extent(command)?;
        self.check_protection(command)?;
        self.exists(command)?.check(command)?;
        self.exists(command)?.check_zones(command.lba(), command.blocks().into())?;
        let namespace = self.exists(command)?;
        let (config, mut data) = (namespace.config, namespace.data[range].to_vec());
        let metadata = namespace.metadata[namespace.metadata_range(command)].to_vec();
        if corrupt && let Some(byte) = data.first_mut() {
            *byte ^= 1;
        }
        self.smart.host_reads = (self.smart.host_reads.get() + 1).into();
        self.send_blocks(config, command, &Blocks { data, metadata })
    }

    pub(super) fn write(&mut self, command: &Command) -> Result<(), Status> {
        let range = self.extent(command)?;
        let config = self.exists(command)?.config;
        let Blocks { data, metadata } = self.fetch_blocks(config, command)?;
        self.check_protection(command)?;
        self.write_to_zone(command)?;
        self.smart.host_writes = (self.smart.host_writes.get() + 1).into();
        self.bytes(command, range)?.copy_from_slice(&data);
        self.write_metadata(command, &metadata);
        self.protect(command);
        Ok(())
    }

    fn write_to_zone(&mut self, command: &Command) -> Result<(), Status> {
        let (lba, blocks) = (command.lba(), u64::from(command.blocks()));
        let namespace = self.namespace_mut(command.nsid.get());
        namespace.map_or(Ok(()), |namespace| namespace.write_to_zone(lba, blocks))
    }

    fn compare(&mut self, command: &Command) -> Result<(), Status> {
        let range = self.extent(command)?;
        let config = self.exists(command)?.config;
        let Blocks { data, metadata } = self.fetch_blocks(config, command)?;
        let namespace = self.exists(command)?;
        let there = &namespace.metadata[namespace.metadata_range(command)];
        let same = metadata.is_empty() || *there == *metadata;
        match same && *self.bytes(command, range)? == *data {
            true => Ok(()),
            false => Err(Status::COMPARE_FAILURE.with_dnr()),
        }
    }

    fn zero(&mut self, command: &Command, lba: u64, blocks: u64) -> Result<(), Status> {
        let range = self.exists(command)?.range(lba, blocks)?;
        self.bytes(command, range)?.fill(0);
        Ok(())
    }

    fn dataset_management(&mut self, command: &Command) -> Result<(), Status> {
        self.exists(command)?;
        let mut ranges = vec![DsmRange::new_zeroed(); command.dsm_ranges() as usize];
        self.fetch_data(command, ranges.as_mut_slice().as_mut_bytes())?;
        if !command.dsm_attributes().contains(DsmAttributes::DEALLOCATE) {
            return Ok(());
        }
        for range in ranges {
            let (lba, blocks) = (range.lba.get(), u64::from(range.blocks.get()));
            self.zero(command, lba, blocks)?;
            if blocks > self.config.range_max.into() {
                self.violate(format!("a range of {blocks} blocks"));
            }
            if let Some(namespace) = self.namespace_mut(command.nsid.get()) {
                namespace.protection.retain(|at, _| !(lba..lba + blocks).contains(at));
            }
        }
        Ok(())
    }

    /// What was moved of it, or zeroes.
    fn write_metadata(&mut self, command: &Command, moved: &[u8]) {
        if let Some(namespace) = self.namespace_mut(command.nsid.get()) {
            let range = namespace.metadata_range(command);
            namespace.metadata[range.clone()].fill(0);
            namespace.metadata[range][..moved.len()].copy_from_slice(moved);
        }
    }

    /// Protects what a command has written.
    fn protect(&mut self, command: &Command) {
        if let Some(namespace) = self.namespace_mut(command.nsid.get()) {
            namespace.protect(command);
        }
    }

    fn bytes(
        &mut self,
        command: &Command,
        range: std::ops::Range<usize>,
    ) -> Result<&mut [u8], Status> {
        let namespace = self.namespace_mut(command.nsid.get());
        namespace.and_then(|ns| ns.data.get_mut(range)).ok_or(Status::INTERNAL_ERROR)
    }

    /// Where the command's data pointer says that `len` bytes are.
    fn data_ranges(&self, command: &Command, len: usize) -> Result<Vec<(u64, u64)>, Status> {
        let len = len as u64;
        if !command.uses_sgl() {
            return walk(&self.bus, command.prp1(), command.prp2(), len);
        }
        let mut ranges = Vec::new();
        let mut left = len;
        for block in self.sgl_blocks(&command.sgl1())? {
            if block.identifier != SglDescriptor::TYPE_DATA_BLOCK << 4 {
                return Err(Status::SGL_TYPE_INVALID.with_dnr());
            }
            let part = u64::from(block.length.get()).min(left);
            ranges.push((block.address.get(), part));
            left -= part;
        }
        if left > 0 { Err(Status::SGL_LENGTH_INVALID.with_dnr()) } else { Ok(ranges) }
    }

    /// The descriptors that the first one leads to.
    fn sgl_blocks(&self, first: &SglDescriptor) -> Result<Vec<SglDescriptor>, Status> {
        if first.identifier != SglDescriptor::TYPE_LAST_SEGMENT << 4 {
            return Ok(vec![*first]);
        }
        let len = first.length.get() as usize;
        if !len.is_multiple_of(16) || len == 0 {
            return Err(Status::SGL_LENGTH_INVALID.with_dnr());
        }
        let mut list = vec![SglDescriptor::new_zeroed(); len / 16];
        let at = PhysAddr::new(first.address.get());
        let read = self.bus.read(at, list.as_mut_slice().as_mut_bytes());
        read.map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        Ok(list)
    }

    /// Copies `data` to where the command's data pointer says.
    pub(super) fn send_data(&mut self, command: &Command, data: &[u8]) -> Result<(), Status> {
        let ranges = self.data_ranges(command, data.len())?;
        let mut rest = data;
        for (address, len) in ranges {
            let (part, tail) = rest.split_at(len as usize);
            rest = tail;
            self.bus.write(PhysAddr::new(address), part).map_err(|_| self.outside(address))?;
        }
        Ok(())
    }

    /// Fills `data` from where the command's data pointer says.
    pub(super) fn fetch_data(&mut self, command: &Command, data: &mut [u8]) -> Result<(), Status> {
        let ranges = self.data_ranges(command, data.len())?;
        let mut rest = data;
        for (address, len) in ranges {
            let (part, tail) = rest.split_at_mut(len as usize);
            rest = tail;
            self.bus.read(PhysAddr::new(address), part).map_err(|_| self.outside(address))?;
        }
        Ok(())
    }

    pub(super) fn outside(&mut self, address: u64) -> Status {
        self.violate(format!("data pointer to {address:#x}: no memory there"));
        Status::DATA_TRANSFER_ERROR
    }
}
