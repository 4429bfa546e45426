use alloc::vec::Vec;

use basalt_env::Device;
use basalt_nvme_spec::identify::{NamespaceList, Oacs};
use basalt_nvme_spec::manage::{BlockFormat, ControllerList};
use basalt_nvme_spec::{Cns, Command, Csi, IdentifyNamespace, NSID_ALL};
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use crate::{AdminError, Controller, InitError};

/// Namespaces that are made, and given to controllers (base specification 2.0 §5.22, §5.23).
impl<D: Device> Controller<D> {
    /// Makes a namespace of so many blocks and gives its identifier. No controller has it until it
    /// is attached.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller does not do that; [`AdminError::BadArgument`]
    /// if there are no blocks, no such format, or more bytes than the controller has left; see
    /// [`AdminError`].
    pub async fn create_namespace(
        &self,
        blocks: u64,
        format: BlockFormat,
    ) -> Result<u32, AdminError> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)?;
        let (lbaf, format) = self.find_format(NSID_ALL, format).await?;
        if blocks == 0 || blocks > u64::MAX >> format.data_size_log2 {
            return Err(AdminError::BadArgument);
        }
        let mut identify = IdentifyNamespace::default();
        (identify.nsze, identify.ncap) = (U64::new(blocks), U64::new(blocks));
        // Bits 6:5 are those of an index above 15.
        identify.flbas = lbaf & 0xf | (lbaf & 0x30) << 1;
        let mut data = self.zeroes(size_of::<IdentifyNamespace>())?;
        data.as_mut_slice().copy_from_slice(identify.as_bytes());
        match self.command(Command::create_namespace(Csi::NVM), Some(data)).await?.dw0 {
            0 | NSID_ALL => Err(AdminError::BadData),
            nsid => Ok(nsid),
        }
    }

    /// Deletes one namespace. Whatever is on it is lost.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller does not do that; [`AdminError::BadArgument`]
    /// for all of them; see [`AdminError`].
    pub async fn delete_namespace(&self, nsid: u32) -> Result<(), AdminError> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)?;
        one(nsid)?;
        self.command(Command::delete_namespace(nsid), None).await.map(drop)
    }

    /// Attaches a namespace to this controller.
    ///
    /// # Errors
    /// As [`Self::delete_namespace`].
    pub async fn attach_namespace(&self, nsid: u32) -> Result<(), AdminError> {
        self.attachment(Command::attach_namespace(nsid)).await
    }

    /// Detaches a namespace from this controller. It keeps its data.
    ///
    /// # Errors
    /// As [`Self::delete_namespace`].
    pub async fn detach_namespace(&self, nsid: u32) -> Result<(), AdminError> {
        self.attachment(Command::detach_namespace(nsid)).await
    }

    async fn attachment(&self, command: Command) -> Result<(), AdminError> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)?;
        one(command.nsid.get())?;
        let list = ControllerList::one(self.identify.borrow().cntlid.get());
        let mut data = self.zeroes(size_of::<ControllerList>())?;
        data.as_mut_slice().copy_from_slice(list.as_bytes());
        self.command(command, Some(data)).await.map(drop)
    }

    /// The identifiers of all namespaces that exist, attached or not, at most 1,024 of them.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller does not manage them; see [`AdminError`].
    pub async fn allocated_namespaces(&self) -> Result<Vec<u32>, AdminError> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)?;
        self.namespace_list(Cns::ALLOCATED_NAMESPACES).await
    }

    /// Those of them that are attached to this controller, whether or not they can be used.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn attached_namespaces(&self) -> Result<Vec<u32>, AdminError> {
        self.namespace_list(Cns::ACTIVE_NAMESPACES).await
    }

    async fn namespace_list(&self, cns: Cns) -> Result<Vec<u32>, AdminError> {
        let page = self.page(Command::identify(cns, 0)).await?;
        let list = NamespaceList::ref_from_bytes(page.as_slice());
        Ok(list.map_err(|_| AdminError::BadData)?.iter().collect())
    }

    /// Asks the controller again what it says of itself: capacity left and firmware change.
    ///
    /// # Errors
    /// See [`InitError`].
    pub async fn refresh(&self) -> Result<(), InitError> {
        self.identify_controller().await
    }

    /// The controllers that have a namespace, by their identifiers (CNTLID).
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller does not manage them; see [`AdminError`].
    pub async fn controllers_of(&self, nsid: u32) -> Result<Vec<u16>, AdminError> {
        self.controller_list(Command::identify(Cns::NAMESPACE_CONTROLLERS, nsid)).await
    }

    /// All controllers of the subsystem, likewise.
    ///
    /// # Errors
    /// As [`Self::controllers_of`].
    pub async fn controllers(&self) -> Result<Vec<u16>, AdminError> {
        self.controller_list(Command::identify(Cns::CONTROLLERS, 0)).await
    }

    async fn controller_list(&self, command: Command) -> Result<Vec<u16>, AdminError> {
        self.offers(Oacs::NAMESPACE_MANAGEMENT)?;
        let page = self.page(command).await?;
        let list = ControllerList::ref_from_bytes(page.as_slice());
        Ok(list.map_err(|_| AdminError::BadData)?.iter().collect())
    }
}

fn one(nsid: u32) -> Result<(), AdminError> {
    if nsid == 0 || nsid == NSID_ALL { Err(AdminError::BadArgument) } else { Ok(()) }
}
