use basalt_nvme_spec::identify::{LbaFormat, NamespaceDescriptor, NamespaceList, Oacs};
use basalt_nvme_spec::log_page::ErrorEntry;
use basalt_nvme_spec::{
    AdminOpcode, AsyncEvent, Cns, Command, Csi, FeatureId, IdentifyController, IdentifyNamespace,
    IdentifyNvmController, LogPageId, NSID_ALL, QueueCounts, QueueId, Status, Version,
    set_ascii_field,
};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use super::queues::{Answer, CompletionQueue, ERRORS_MAX};
use super::state::{Namespace, State};
use super::{MetadataPlace, Shadowing};

impl State {
    /// Carries out an admin command. `corrupt` turns one bit of the data it returns.
    pub(super) fn admin_command(&mut self, command: &Command, corrupt: bool) -> Answer {
        if command.uses_sgl() {
            return Some(Err(Status::INVALID_FIELD.with_dnr()));
        }
        Some(match AdminOpcode(command.opcode) {
            AdminOpcode::IDENTIFY => self.identify(command, corrupt),
            AdminOpcode::SET_FEATURES => self.set_features(command),
            AdminOpcode::GET_FEATURES => self.get_features(command),
            AdminOpcode::GET_LOG_PAGE => self.log_page(command, corrupt),
            AdminOpcode::CREATE_IO_CQ => self.create_cq(command),
            AdminOpcode::CREATE_IO_SQ => self.create_sq(command),
            AdminOpcode::DELETE_IO_SQ => self.delete_sq(command),
            AdminOpcode::DELETE_IO_CQ => self.delete_cq(command),
            AdminOpcode::DOORBELL_BUFFER_CONFIG if self.config.shadow != Shadowing::No => {
                self.shadow = Some((command.prp1(), command.prp2()));
                Ok(0)
            }
            AdminOpcode::ABORT => Ok(u32::from(!self.abort(command))),
            AdminOpcode::ASYNC_EVENT_REQUEST => {
                if self.events_waiting.len() < self.config.event_requests.into() {
                    self.events_waiting.push_back(command.cid.get());
                    return None;
                }
                Err(Status::AER_LIMIT.with_dnr())
            }
            _ => {
                return self
                    .manage(command)
                    .unwrap_or(Some(Err(Status::INVALID_OPCODE.with_dnr())));
            }
        })
    }

    fn identify(&mut self, command: &Command, corrupt: bool) -> Result<u32, Status> {
        let nsid = command.nsid.get();
        let mut page = match Cns(command.cdw10.get() as u8) {
            Cns::CONTROLLER => self.controller_page().as_bytes().to_vec(),
            Cns::CONTROLLER_FOR_CSI if command.cdw11.get() >> 24 == u32::from(Csi::NVM.0) => {
                self.nvm_controller_page().as_bytes().to_vec()
            }
            Cns::CONTROLLER_FOR_CSI if command.cdw11.get() >> 24 == u32::from(Csi::ZONED.0) => {
                let mut page = vec![0; 4096];
                page[0] = self.config.zasl;
                page
            }
            Cns::NAMESPACE_FOR_CSI if command.cdw11.get() >> 24 == u32::from(Csi::ZONED.0) => {
                let namespace = self.namespace(nsid).and_then(Namespace::zoned_page);
                namespace.ok_or(Status::INVALID_FIELD.with_dnr())?.as_bytes().to_vec()
            }
            Cns::NAMESPACE if nsid == NSID_ALL => self.common_page()?.as_bytes().to_vec(),
            Cns::ALLOCATED_NAMESPACES => self.allocated_list(nsid)?.as_bytes().to_vec(),
            Cns::ALLOCATED_NAMESPACE => self.allocated_page(nsid)?.as_bytes().to_vec(),
            Cns::NAMESPACE_CONTROLLERS => self.controller_list(Some(nsid))?.as_bytes().to_vec(),
            Cns::CONTROLLERS => self.controller_list(None)?.as_bytes().to_vec(),
            Cns::NAMESPACE if nsid == 0 => {
                return Err(Status::INVALID_NAMESPACE.with_dnr());
            }
            Cns::NAMESPACE => self.namespace_page(nsid).as_bytes().to_vec(),
            Cns::ACTIVE_NAMESPACES if nsid >= NSID_ALL - 1 => {
                return Err(Status::INVALID_NAMESPACE.with_dnr());
            }
            Cns::ACTIVE_NAMESPACES => self.active_list(nsid).as_bytes().to_vec(),
            Cns::NAMESPACE_DESCRIPTORS => self.descriptor_page(nsid)?,
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        };
        if corrupt {
            page[0] ^= 1;
        }
        self.lies.change(&mut page);
        self.send_data(command, &page).map(|()| 0)
    }

    fn nvm_controller_page(&self) -> IdentifyNvmController {
        let mut page = IdentifyNvmController::new_zeroed();
        (page.vsl, page.wzsl) = (self.config.dataless_max, self.config.dataless_max);
        page.wusl = self.config.dataless_max;
        page.dmrsl = U32::new(self.config.range_max.into());
        page
    }

    fn controller_page(&self) -> IdentifyController {
        let mut page = IdentifyController::new_zeroed();
        page.vid = U16::new(0x1b36);
        page.ssvid = U16::new(0x1af4);
        set_ascii_field(&mut page.sn, &self.config.serial);
        set_ascii_field(&mut page.mn, "Basalt NVMe model");
        page.rab = self.config.arbitration_burst;
        page.mdts = self.config.mdts;
        page.cntlid = U16::new(1);
        page.ver = U32::new(Version::V2_0.0);
        page.cntrltype = 1;
        page.aerl = self.config.event_requests - 1;
        page.oaes = U32::new(AsyncEvent::CONFIG_NAMESPACE);
        page.acl = 3;
        page.elpe = ERRORS_MAX as u8 - 1;
        page.sqes = 0x66;
        page.cqes = 0x44;
        page.nn = U32::new(self.namespaces.iter().map(|ns| ns.config.nsid).max().unwrap_or(0));
        page.sgls = U32::new(u32::from(self.config.sgls));
        page.oncs = U16::new(self.config.oncs.bits());
        page.vendor[3] = self.config.vendor_stripe;
        page.avscc = self.config.avscc;
        let shadows = self.config.shadow != Shadowing::No;
        page.oacs = U16::new(if shadows { Oacs::DOORBELL_BUFFER.bits() } else { 0 });
        self.describe_management(&mut page);
        page.cdfs = U16::new(1);
        page.fuses = U16::new(u16::from(self.config.fused_max > 0));
        page.acwu = U16::new(self.config.fused_max.saturating_sub(1));
        page.vwc = 0b111;
        let name = format!("nqn.2014-08.org.nvmexpress:{}", self.config.serial);
        let len = name.len().min(223);
        page.subnqn[..len].copy_from_slice(&name.as_bytes()[..len]);
        page
    }

    /// All zeroes for a namespace that is not active (§5.17.2.1).
    pub(super) fn namespace_page(&self, nsid: u32) -> IdentifyNamespace {
        let mut page = IdentifyNamespace::new_zeroed();
        let Some(Namespace { config, .. }) = self.namespace(nsid) else { return page };
        page.nsze = U64::new(config.blocks);
        page.ncap = page.nsze;
        page.nuse = page.nsze;
        page.dlfeat = 1;
        page.nvmcap = (u128::from(config.blocks) * u128::from(config.block_size)).into();
        page.mssrl = U16::new(self.config.range_max);
        page.mcl = U32::new(self.config.range_max.into());
        page.noiob = U16::new(self.config.boundary);
        page.dps = config.protection;
        page.mc = 0b11;
        page.flbas = u8::from(config.metadata_place == MetadataPlace::InLine) << 4;
        page.lbaf[0] = LbaFormat {
            metadata_size: U16::new(config.metadata_size),
            data_size_log2: config.block_size.trailing_zeros() as u8,
            performance: 0,
        };
        if config.metadata_size == 0 {
            self.describe_formats(config.block_size, &mut page);
        }
        page
    }

    fn active_list(&self, after: u32) -> NamespaceList {
        let mut list = NamespaceList::default();
        let active = self.namespaces.iter().map(|ns| ns.config.nsid).filter(|&nsid| nsid > after);
        for (entry, nsid) in list.nsid.iter_mut().zip(active) {
            entry.set(nsid);
        }
        list
    }

    fn descriptor_page(&self, nsid: u32) -> Result<Vec<u8>, Status> {
        let namespace = self.namespace(nsid).ok_or(Status::INVALID_NAMESPACE.with_dnr())?;
        let mut page = vec![0; 4096];
        let uuid = NamespaceDescriptor::Uuid(namespace.config.uuid);
        let at = uuid.write(&mut page).unwrap_or(0);
        let csi = if namespace.config.zones.is_some() { Csi::ZONED } else { Csi::NVM };
        NamespaceDescriptor::CommandSet(csi).write(&mut page[at..]);
        Ok(page)
    }

    fn set_features(&mut self, command: &Command) -> Result<u32, Status> {
        let value = command.cdw11.get();
        let feature = FeatureId(command.cdw10.get() as u8);
        match feature {
            FeatureId::NUMBER_OF_QUEUES => {
                if self.sqs.len() > 1 || self.cqs.len() > 1 {
                    return Err(Status::SEQUENCE_ERROR.with_dnr());
                }
                if value & 0xffff == 0xffff || value >> 16 == 0xffff {
                    return Err(Status::INVALID_FIELD.with_dnr());
                }
                let wanted = QueueCounts::from_dword(value);
                let granted = QueueCounts {
                    submission: wanted.submission.min(self.config.queues),
                    completion: wanted.completion.min(self.config.queues),
                };
                self.features.insert(feature.0, granted.to_dword());
                Ok(granted.to_dword())
            }
            FeatureId::VOLATILE_WRITE_CACHE
            | FeatureId::ASYNC_EVENT_CONFIG
            | FeatureId::ARBITRATION
            | FeatureId::TEMPERATURE_THRESHOLD => {
                self.features.insert(feature.0, value);
                Ok(0)
            }
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }

    fn get_features(&self, command: &Command) -> Result<u32, Status> {
        let feature = FeatureId(command.cdw10.get() as u8);
        let default = match feature {
            FeatureId::NUMBER_OF_QUEUES => QueueCounts::pairs(self.config.queues).to_dword(),
            FeatureId::VOLATILE_WRITE_CACHE => 1,
            FeatureId::TEMPERATURE_THRESHOLD => 343,
            FeatureId::ASYNC_EVENT_CONFIG | FeatureId::ARBITRATION => 0,
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        };
        Ok(self.features.get(&feature.0).copied().unwrap_or(default))
    }

    fn log_page(&mut self, command: &Command, corrupt: bool) -> Result<u32, Status> {
        let mut page = match LogPageId(command.cdw10.get() as u8) {
            LogPageId::ERROR_INFORMATION => self.error_page(),
            LogPageId::SMART_HEALTH => {
                self.smart.temperature_k = U16::new(310);
                self.smart.as_bytes().to_vec()
            }
            LogPageId::FIRMWARE_SLOT => self.managed.firmware.page(),
            LogPageId::COMMANDS_SUPPORTED => self.effects_page(),
            LogPageId::DEVICE_SELF_TEST => self.self_test_page()?,
            LogPageId::SANITIZE_STATUS => self.sanitize_page()?,
            LogPageId::CHANGED_NAMESPACES => self.changed_page(),
            _ => return Err(Status::INVALID_LOG_PAGE.with_dnr()),
        };
        if corrupt {
            page[0] ^= 1;
        }
        self.lies.change(&mut page);
        let offset = usize::try_from(command.log_offset()).unwrap_or(usize::MAX);
        if offset > page.len() || !offset.is_multiple_of(4) {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        let mut part = page.split_off(offset);
        // Reading past the end of a page is allowed and gives zeroes here (§5.16.1).
        part.resize(command.log_bytes().min(1 << 20) as usize, 0);
        self.send_data(command, &part).map(|()| 0)
    }

    /// Reading it clears it.
    fn changed_page(&mut self) -> Vec<u8> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let mut list = NamespaceList::default();
        for (entry, nsid) in list.nsid.iter_mut().zip(changed) {
            entry.set(nsid);
        }
        list.as_bytes().to_vec()
    }

    fn error_page(&self) -> Vec<u8> {
        let mut entries: Vec<ErrorEntry> = self.errors.iter().copied().collect();
        entries.resize(ERRORS_MAX, ErrorEntry::default());
        entries.as_slice().as_bytes().to_vec()
    }

    /// Queue identifier and entries, if in range.
    fn new_queue(&self, command: &Command) -> Result<(QueueId, u32), Status> {
        let (qid, size) = (command.cdw10.get() as QueueId, command.cdw10.get() >> 16);
        if qid == 0 || qid > self.config.queues {
            return Err(Status::INVALID_QUEUE_ID.with_dnr());
        }
        if size == 0 || size >= self.config.queue_entries_max {
            return Err(Status::INVALID_QUEUE_SIZE.with_dnr());
        }
        if command.cdw11.get() & 1 == 0 {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        if !command.prp1().is_multiple_of(4096) {
            return Err(Status::PRP_OFFSET_INVALID.with_dnr());
        }
        Ok((qid, size + 1))
    }

    fn create_cq(&mut self, command: &Command) -> Result<u32, Status> {
        let (qid, entries) = self.new_queue(command)?;
        if self.cqs.contains_key(&qid) {
            return Err(Status::INVALID_QUEUE_ID.with_dnr());
        }
        if command.cdw11.get() & 2 != 0 || command.cdw11.get() >> 16 != 0 {
            return Err(Status::INVALID_INTERRUPT_VECTOR.with_dnr());
        }
        self.cqs.insert(qid, CompletionQueue::new(command.prp1(), entries));
        Ok(0)
    }

    fn create_sq(&mut self, command: &Command) -> Result<u32, Status> {
        let (qid, entries) = self.new_queue(command)?;
        if self.sqs.contains_key(&qid) {
            return Err(Status::INVALID_QUEUE_ID.with_dnr());
        }
        let cqid = (command.cdw11.get() >> 16) as QueueId;
        if cqid == 0 || !self.cqs.contains_key(&cqid) {
            return Err(Status::CQ_INVALID.with_dnr());
        }
        let queue = self.new_sq(command, entries, cqid);
        self.sqs.insert(qid, queue);
        Ok(0)
    }

    fn delete_sq(&mut self, command: &Command) -> Result<u32, Status> {
        match command.cdw10.get() as QueueId {
            0 => Err(Status::INVALID_QUEUE_ID.with_dnr()),
            qid => self.sqs.remove(&qid).map(|_| 0).ok_or(Status::INVALID_QUEUE_ID.with_dnr()),
        }
    }

    fn delete_cq(&mut self, command: &Command) -> Result<u32, Status> {
        let qid = command.cdw10.get() as QueueId;
        if qid == 0 || !self.cqs.contains_key(&qid) {
            return Err(Status::INVALID_QUEUE_ID.with_dnr());
        }
        if self.sqs.values().any(|sq| sq.cqid == qid) {
            return Err(Status::INVALID_QUEUE_DELETION.with_dnr());
        }
        self.cqs.remove(&qid);
        Ok(0)
    }
}
