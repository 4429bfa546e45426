use std::collections::BTreeSet;

use basalt_nvme_spec::identify::{LbaFormat, NamespaceList, Oacs};
use basalt_nvme_spec::manage::{ControllerList, FormatAttributes};
use basalt_nvme_spec::{Command, IdentifyNamespace, NSID_ALL, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use super::BLOCK_SIZES;
use crate::nvme::NamespaceConfig;
use crate::nvme::state::{Namespace, State};

/// The one controller of the subsystem.
const CNTLID: u16 = 1;

impl Namespace {
    /// Erases it and gives it blocks of another size.
    fn format(&mut self, block_size: u32) {
        self.config.blocks = self.data.len() as u64 / u64::from(block_size);
        self.config.block_size = block_size;
        // No format has any.
        (self.config.metadata_size, self.config.protection) = (0, 0);
        self.metadata.clear();
        self.erase();
        self.make_zones();
    }

    /// Erases it.
    pub(super) fn erase(&mut self) {
        self.data.fill(0);
        self.metadata.fill(0);
        self.bad = BTreeSet::new();
        self.protection.clear();
    }
}

impl State {
    /// All namespaces, attached or not.
    pub(super) fn all_namespaces(&mut self) -> impl Iterator<Item = &mut Namespace> {
        self.namespaces.iter_mut().chain(&mut self.managed.detached)
    }

    pub(super) fn format(&mut self, command: &Command) -> Result<u32, Status> {
        self.offers(Oacs::FORMAT)?;
        let (nsid, cdw10) = (command.nsid.get(), command.cdw10.get());
        let block_size = BLOCK_SIZES.get(usize::from(command.format_index()));
        let block_size = *block_size.ok_or(Status::INVALID_FORMAT.with_dnr())?;
        let (protection, erase) = (cdw10 >> 5 & 7, cdw10 >> 9 & 7);
        if protection != 0 {
            return Err(Status::INVALID_FORMAT.with_dnr());
        }
        let fna = self.config.manage.fna;
        if erase > 2 || erase == 2 && !fna.contains(FormatAttributes::CRYPTOGRAPHIC) {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let all = fna.contains(FormatAttributes::FORMATS_ALL)
            || fna.contains(FormatAttributes::ERASES_ALL) && erase != 0
            || nsid == NSID_ALL;
        if nsid == NSID_ALL && fna.contains(FormatAttributes::NO_BROADCAST) {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let mut found = nsid == NSID_ALL;
        for namespace in self.all_namespaces() {
            let named = namespace.config.nsid == nsid;
            found |= named;
            if named || all {
                namespace.format(block_size);
            }
        }
        if found { Ok(0) } else { Err(Status::INVALID_NAMESPACE.with_dnr()) }
    }

    pub(super) fn manage_namespace(&mut self, command: &Command) -> Result<u32, Status> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)?;
        match command.namespace_operation() {
            0 => self.create(command),
            1 => self.delete(command.nsid.get()).map(|()| 0),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }

    fn create(&mut self, command: &Command) -> Result<u32, Status> {
        if command.cdw11.get() >> 24 != 0 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let mut page = IdentifyNamespace::default();
        self.fetch_data(command, page.as_mut_bytes())?;
        let block_size = BLOCK_SIZES.get(usize::from(page.flbas & 0xf));
        let block_size = *block_size.ok_or(Status::INVALID_FORMAT.with_dnr())?;
        if page.ncap.get() != page.nsze.get() {
            return Err(Status::THIN_PROVISIONING.with_dnr());
        }
        if page.nsze.get() == 0 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let bytes = page.nsze.get().checked_mul(block_size.into());
        let left = self.config.manage.capacity.saturating_sub(self.used());
        if bytes.is_none_or(|bytes| bytes > left) {
            return Err(Status::NAMESPACE_NO_CAPACITY.with_dnr());
        }
        let taken: BTreeSet<u32> = self.all_namespaces().map(|ns| ns.config.nsid).collect();
        let mut free = (1..=self.config.manage.nsid_max).filter(|nsid| !taken.contains(nsid));
        let nsid = free.next().ok_or(Status::NAMESPACE_NO_IDENTIFIER.with_dnr())?;
        let config = NamespaceConfig::new(nsid, block_size, page.nsze.get());
        self.managed.detached.push(Namespace::new(config));
        Ok(nsid)
    }

    fn delete(&mut self, nsid: u32) -> Result<(), Status> {
        if nsid != NSID_ALL && !self.all_namespaces().any(|ns| ns.config.nsid == nsid) {
            return Err(Status::INVALID_NAMESPACE.with_dnr());
        }
        let stays = |namespace: &Namespace| nsid != NSID_ALL && namespace.config.nsid != nsid;
        self.namespaces.retain(stays);
        self.managed.detached.retain(stays);
        Ok(())
    }

    pub(super) fn attach_or_detach(&mut self, command: &Command) -> Result<u32, Status> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)?;
        let mut list = ControllerList::default();
        self.fetch_data(command, list.as_mut_bytes())?;
        if list.iter().collect::<Vec<_>>() != [CNTLID] {
            return Err(Status::INVALID_CONTROLLER_LIST.with_dnr());
        }
        match (command.namespace_operation(), command.nsid.get()) {
            (0, nsid) => self.attach(nsid).map(|()| 0),
            (1, nsid) => self.detach(nsid).map(|()| 0),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }

    fn attach(&mut self, nsid: u32) -> Result<(), Status> {
        if self.namespace(nsid).is_some() {
            return Err(Status::NAMESPACE_ALREADY_ATTACHED.with_dnr());
        }
        let at = self.managed.detached.iter().position(|ns| ns.config.nsid == nsid);
        let at = at.ok_or(Status::INVALID_NAMESPACE.with_dnr())?;
        let namespace = self.managed.detached.swap_remove(at);
        let place = self.namespaces.partition_point(|other| other.config.nsid < nsid);
        self.namespaces.insert(place, namespace);
        Ok(())
    }

    fn detach(&mut self, nsid: u32) -> Result<(), Status> {
        let Some(at) = self.namespaces.iter().position(|ns| ns.config.nsid == nsid) else {
            let known = self.all_namespaces().any(|ns| ns.config.nsid == nsid);
            let status =
                if known { Status::NAMESPACE_NOT_ATTACHED } else { Status::INVALID_NAMESPACE };
            return Err(status.with_dnr());
        };
        let namespace = self.namespaces.remove(at);
        self.managed.detached.push(namespace);
        Ok(())
    }

    /// The formats that a namespace can have, and which it has.
    pub(in crate::nvme) fn describe_formats(&self, block_size: u32, page: &mut IdentifyNamespace) {
        if self.config.manage.oacs.is_empty() {
            return;
        }
        page.nlbaf = BLOCK_SIZES.len() as u8 - 1;
        page.flbas = BLOCK_SIZES.iter().position(|size| *size == block_size).unwrap_or(0) as u8;
        for (format, size) in page.lbaf.iter_mut().zip(BLOCK_SIZES) {
            let data_size_log2 = size.trailing_zeros() as u8;
            *format = LbaFormat { metadata_size: U16::new(0), data_size_log2, performance: 0 };
        }
    }

    /// What the namespaces to come have in common (CNS 00h of all).
    pub(in crate::nvme) fn common_page(&self) -> Result<IdentifyNamespace, Status> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)
            .map_err(|_| Status::INVALID_NAMESPACE.with_dnr())?;
        let mut page = IdentifyNamespace::default();
        self.describe_formats(BLOCK_SIZES[0], &mut page);
        Ok(page)
    }

    /// An allocated namespace (CNS 11h).
    pub(in crate::nvme) fn allocated_page(&self, nsid: u32) -> Result<IdentifyNamespace, Status> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT).map_err(|_| Status::INVALID_FIELD.with_dnr())?;
        let of = |ns: &&Namespace| ns.config.nsid == nsid;
        let Some(namespace) = self.managed.detached.iter().find(of) else {
            return Ok(self.namespace_page(nsid));
        };
        let mut page = IdentifyNamespace::default();
        page.nsze = U64::new(namespace.config.blocks);
        page.ncap = page.nsze;
        self.describe_formats(namespace.config.block_size, &mut page);
        Ok(page)
    }

    /// The allocated namespaces (CNS 10h).
    pub(in crate::nvme) fn allocated_list(&self, after: u32) -> Result<NamespaceList, Status> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT).map_err(|_| Status::INVALID_FIELD.with_dnr())?;
        let all = self.namespaces.iter().chain(&self.managed.detached);
        let nsids: BTreeSet<u32> = all.map(|ns| ns.config.nsid).collect();
        let mut list = NamespaceList::default();
        for (entry, nsid) in list.nsid.iter_mut().zip(nsids.range(after.saturating_add(1)..)) {
            entry.set(*nsid);
        }
        Ok(list)
    }

    /// The controllers that have a namespace (CNS 12h), or all (CNS 13h).
    pub(in crate::nvme) fn controller_list(
        &self,
        of: Option<u32>,
    ) -> Result<ControllerList, Status> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT).map_err(|_| Status::INVALID_FIELD.with_dnr())?;
        let has = of.is_none_or(|nsid| self.namespace(nsid).is_some());
        Ok(if has { ControllerList::one(CNTLID) } else { ControllerList::default() })
    }
}
