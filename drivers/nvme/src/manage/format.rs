use basalt_env::Device;
use basalt_nvme_spec::identify::{LbaFormat, Oacs};
use basalt_nvme_spec::manage::{
    BlockFormat, FormatAttributes, FormatSettings, FormatTarget, SecureErase,
};
use basalt_nvme_spec::{Cns, Command, IdentifyNamespace, NSID_ALL};
use zerocopy::FromBytes;

use crate::{AdminError, Controller};

/// Formats (base specification 2.0 §5.14).
impl<D: Device> Controller<D> {
    /// What a format of `target` with that erasure reaches: some controllers format, or erase, all
    /// namespaces together.
    pub fn format_reaches(&self, target: FormatTarget, erase: SecureErase) -> FormatTarget {
        let (attributes, namespaces) = {
            let identify = self.identify.borrow();
            (identify.format_attributes(), identify.nn.get())
        };
        let all = attributes.contains(FormatAttributes::FORMATS_ALL)
            || attributes.contains(FormatAttributes::ERASES_ALL) && erase != SecureErase::None;
        if all && namespaces > 1 { FormatTarget::All } else { target }
    }

    /// Formats a namespace, or all of them. Whatever is on them is lost.
    ///
    /// # Errors
    /// [`AdminError::Unsupported`] if the controller does not do that; [`AdminError::BadArgument`]
    /// if there is no such format; [`AdminError::ReachesAll`] if one namespace is named and all
    /// would be formatted, see [`Self::format_reaches`]; see [`AdminError`].
    pub async fn format(
        &self,
        target: FormatTarget,
        blocks: BlockFormat,
        settings: FormatSettings,
    ) -> Result<(), AdminError> {
        self.offers(Oacs::FORMAT)?;
        let attributes = self.identify.borrow().format_attributes();
        if settings.erase == SecureErase::Cryptographic
            && !attributes.contains(FormatAttributes::CRYPTOGRAPHIC)
        {
            return Err(AdminError::Unsupported);
        }
        if settings.protection > 3 {
            return Err(AdminError::BadArgument);
        }
        let nsid = match target {
            FormatTarget::Namespace(0 | NSID_ALL) => return Err(AdminError::BadArgument),
            FormatTarget::Namespace(_) if self.format_reaches(target, settings.erase) != target => {
                return Err(AdminError::ReachesAll);
            }
            FormatTarget::Namespace(nsid) => nsid,
            FormatTarget::All if attributes.contains(FormatAttributes::NO_BROADCAST) => {
                return Err(AdminError::Unsupported);
            }
            FormatTarget::All => NSID_ALL,
        };
        let (lbaf, format) = self.find_format(nsid, blocks).await?;
        if settings.protection != 0 && format.metadata_size.get() < 8 {
            return Err(AdminError::BadArgument);
        }
        self.command(Command::format_nvm(nsid, lbaf, settings), None).await.map(drop)
    }

    /// The LBA format that blocks of namespace `nsid` (or of a new one, if it is [`NSID_ALL`]) are
    /// to have.
    pub(super) async fn find_format(
        &self,
        nsid: u32,
        blocks: BlockFormat,
    ) -> Result<(u8, LbaFormat), AdminError> {
        let identify = self.identify_formats(nsid).await?;
        let found = match blocks {
            BlockFormat::Index(index) => identify.formats().find(|(at, _)| *at == index),
            BlockFormat::Size(bytes) => identify
                .formats()
                .filter(|(_, format)| format.metadata_size.get() == 0)
                .filter(|(_, format)| 1 << format.data_size_log2 == bytes)
                .min_by_key(|(_, format)| format.performance & 3),
        };
        found.ok_or(AdminError::BadArgument)
    }

    async fn identify_formats(&self, nsid: u32) -> Result<IdentifyNamespace, AdminError> {
        let manages = self.offers(Oacs::NAMESPACE_MANAGEMENT).is_ok();
        let identify = |cns, nsid| self.page(Command::identify(cns, nsid));
        let page = match nsid {
            // What all have in common is known only where they can be made.
            NSID_ALL if !manages => {
                let first = self.namespaces.borrow().first().map(|namespace| namespace.nsid());
                identify(Cns::NAMESPACE, first.ok_or(AdminError::BadArgument)?).await?
            }
            NSID_ALL => identify(Cns::NAMESPACE, NSID_ALL).await?,
            _ if manages => identify(Cns::ALLOCATED_NAMESPACE, nsid).await?,
            _ => identify(Cns::NAMESPACE, nsid).await?,
        };
        IdentifyNamespace::read_from_bytes(page.as_slice()).map_err(|_| AdminError::BadData)
    }
}
