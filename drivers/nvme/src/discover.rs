use alloc::vec::Vec;

use basalt_env::{Device, DmaBuf};
use basalt_nvme_spec::identify::{IDENTIFY_LEN, NamespaceList};
use basalt_nvme_spec::{
    AdminOpcode, Cns, Command, Csi, FeatureId, IdentifyController, IdentifyNamespace, NSID_ALL,
    QueueCounts,
};
use zerocopy::FromBytes;

use crate::{AdminError, Controller, InitError, Namespace, UnusableNamespace};

/// What a controller is asked about itself on the way up.
impl<D: Device> Controller<D> {
    pub(crate) async fn identify_controller(&self) -> Result<(), InitError> {
        let page = self.page(Command::identify(Cns::CONTROLLER, 0)).await;
        let page = page.map_err(failed(Command::identify(Cns::CONTROLLER, 0)))?;
        let identify = IdentifyController::read_from_bytes(page.as_slice())
            .map_err(|_| failed(Command::identify(Cns::CONTROLLER, 0))(AdminError::BadData))?;
        if identify.sqes & 0xf > 6 || identify.cqes & 0xf > 4 {
            return Err(InitError::EntrySize);
        }
        **self.identify.borrow_mut() = identify;
        Ok(())
    }

    pub(crate) async fn agree_on_queues(&self) -> Result<u16, InitError> {
        let wanted = QueueCounts::pairs(self.options.queues);
        let command = Command::set_features(FeatureId::NUMBER_OF_QUEUES, wanted.to_dword());
        let outcome = self.command(command, None).await.map_err(failed(command))?;
        Ok(QueueCounts::from_dword(outcome.dw0).min().min(self.options.queues).max(1))
    }

    /// Reads the list of active namespaces again and identifies each. Those that cannot be used are
    /// left out, with a line in the log.
    pub async fn rescan(&self) -> Result<(), InitError> {
        let mut found = Vec::new();
        let mut after = 0;
        loop {
            let command = Command::identify(Cns::ACTIVE_NAMESPACES, after);
            let page = self.page(command).await.map_err(failed(command))?;
            let nsids: Vec<u32> = namespace_list(page.as_slice());
            for &nsid in &nsids {
                if nsid <= after || nsid == NSID_ALL {
                    // Not ascending: a list that never ends would keep us here.
                    return Err(failed(command)(AdminError::BadData));
                }
                after = nsid;
                found.extend(self.identify_namespace(nsid).await?);
            }
            if nsids.len() < NAMESPACES_PER_LIST {
                break;
            }
        }
        *self.namespaces.borrow_mut() = found;
        Ok(())
    }

    async fn identify_namespace(&self, nsid: u32) -> Result<Option<Namespace>, InitError> {
        let command = Command::identify(Cns::NAMESPACE, nsid);
        let page = self.page(command).await.map_err(failed(command))?;
        let identify = IdentifyNamespace::read_from_bytes(page.as_slice())
            .map_err(|_| failed(command)(AdminError::BadData))?;
        let descriptors = self.descriptors(nsid).await?;
        let list = descriptors.as_ref().map_or(&[][..], |page| page.as_slice());
        let made = match Namespace::new(nsid, &identify, list) {
            Ok(namespace) => self.complete(namespace, &identify).await?,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = &made {
            log::warn!("nvme {}: namespace {nsid} is not used: {reason}", self.address);
        }
        Ok(made.ok())
    }

    /// Adds to a namespace what its controller knows, and its zones.
    async fn complete(
        &self,
        namespace: Namespace,
        own: &IdentifyNamespace,
    ) -> Result<Result<Namespace, UnusableNamespace>, InitError> {
        let namespace = {
            let identify = self.identify.borrow();
            let stripe = self.quirks.stripe(&identify, self.cap.page_size_min());
            let namespace = stripe.map_or(namespace, |bytes| namespace.with_stripe(bytes));
            let namespace = namespace.with_fused(&identify, own);
            if identify.copies() { namespace } else { namespace.without_copy() }
        };
        if !namespace.metadata().can_describe(self.sgls()) {
            return Ok(Err(UnusableNamespace::Metadata));
        }
        match namespace.csi() {
            Csi::NVM => Ok(Ok(namespace)),
            Csi::ZONED if self.cap.io_command_sets() => self.add_zones(namespace, own).await,
            _ => Ok(Err(UnusableNamespace::CommandSet)),
        }
    }

    /// The descriptor list, which controllers before 1.3 lack.
    async fn descriptors(&self, nsid: u32) -> Result<Option<DmaBuf>, InitError> {
        let command = Command::identify(Cns::NAMESPACE_DESCRIPTORS, nsid);
        match self.page(command).await {
            Ok(page) => Ok(Some(page)),
            Err(AdminError::Status(_)) => Ok(None),
            Err(error) => Err(failed(command)(error)),
        }
    }

    /// Sends an identify or log page command with a page of its own.
    pub(crate) async fn page(&self, command: Command) -> Result<DmaBuf, AdminError> {
        let mut page = self.pool.alloc(IDENTIFY_LEN).map_err(|_| AdminError::NoMemory)?;
        page.as_mut_slice().fill(0);
        let outcome = self.command(command, Some(page)).await?;
        outcome.data.ok_or(AdminError::BadData)
    }
}

/// Identifiers one list holds.
const NAMESPACES_PER_LIST: usize = 1024;

fn namespace_list(page: &[u8]) -> Vec<u32> {
    NamespaceList::ref_from_bytes(page).map_or_else(|_| Vec::new(), |list| list.iter().collect())
}

/// Names the command with its error.
pub(crate) fn failed(command: Command) -> impl Fn(AdminError) -> InitError {
    let opcode = AdminOpcode(command.opcode);
    move |error| InitError::Command { opcode, error }
}
