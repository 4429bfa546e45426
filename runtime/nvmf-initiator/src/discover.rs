//! What a controller has: its namespaces.

use alloc::vec::Vec;

use basalt_bdev::uuid;
use basalt_nvme_spec::identify::{NamespaceDescriptor, NamespaceList, namespace_descriptors};
use basalt_nvme_spec::{Cns, Command, Csi, IdentifyController, IdentifyNamespace, NSID_ALL};
use zerocopy::FromBytes;

use super::ana;
use super::error::PathError;
use super::session::Session;
use basalt_nvmf_host::Access;

/// Largest block size used, bytes.
const BLOCK_SIZE_MAX: u32 = 1 << 20;
/// Identifiers one list holds.
const NAMESPACES_PER_LIST: usize = 1024;

/// An active namespace, as a controller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Namespace {
    pub(super) nsid: u32,
    pub(super) block_size: u32,
    /// 0 where the path does not lead to it now, and so does not tell.
    pub(super) blocks: u64,
    /// By which it is known on every path: its own UUID, or one made of its other identifiers.
    pub(super) uuid: [u8; 16],
    pub(super) optimal_boundary: u32,
    /// Most blocks of one range of a Copy, 0 if there is none.
    pub(super) copy_max: u32,
    pub(super) access: Access,
}

impl Namespace {
    /// Whether it is the same one, of whatever size.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.nsid, self.block_size, self.uuid) == (other.nsid, other.block_size, other.uuid)
    }
}

/// The active namespaces that can be used. Others are left out, with a line in the log.
pub(super) async fn namespaces(session: &Session) -> Result<Vec<Namespace>, PathError> {
    let access = ana::read(session).await?;
    let mut found: Vec<Namespace> = Vec::new();
    let mut after = 0;
    loop {
        let page = session.page(Command::identify(Cns::ACTIVE_NAMESPACES, after)).await?;
        let nsids: Vec<u32> = NamespaceList::ref_from_bytes(page.as_slice())
            .map_or_else(|_| Vec::new(), |list| list.iter().collect());
        for &nsid in &nsids {
            if nsid <= after || nsid == NSID_ALL {
                // Not ascending: a list that never ends would keep us here.
                return Err(PathError::BadData);
            }
            after = nsid;
            let access = access.get(&nsid).copied().unwrap_or(Access::Optimized);
            found.extend(identify(session, nsid, access).await?);
        }
        if nsids.len() < NAMESPACES_PER_LIST {
            return Ok(found);
        }
    }
}

async fn identify(
    session: &Session,
    nsid: u32,
    access: Access,
) -> Result<Option<Namespace>, PathError> {
    let page = match session.page(Command::identify(Cns::NAMESPACE, nsid)).await {
        Ok(page) => page,
        // It has gone since it was listed.
        Err(PathError::Command(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let identify =
        IdentifyNamespace::read_from_bytes(page.as_slice()).map_err(|_| PathError::BadData)?;
    let list = match session.page(Command::identify(Cns::NAMESPACE_DESCRIPTORS, nsid)).await {
        Ok(page) => Some(page),
        Err(PathError::Command(_)) => None,
        Err(error) => return Err(error),
    };
    let list = list.as_ref().map_or(&[][..], |page| page.as_slice());
    match describe(nsid, &session.identify, &identify, list) {
        Ok(namespace) if namespace.blocks == 0 && access.is_usable() => {
            log::warn!(target: "bdev_nvme", "namespace {nsid} is not used: it is empty");
            Ok(None)
        }
        Ok(namespace) => Ok(Some(Namespace { access, ..namespace })),
        Err(reason) => {
            log::warn!(target: "bdev_nvme", "namespace {nsid} is not used: {reason}");
            Ok(None)
        }
    }
}

fn describe(
    nsid: u32,
    controller: &IdentifyController,
    identify: &IdentifyNamespace,
    descriptors: &[u8],
) -> Result<Namespace, &'static str> {
    let block_size = identify.block_size().filter(|&size| size <= BLOCK_SIZE_MAX);
    let block_size = block_size.ok_or("its blocks are of a size that cannot be")?;
    if identify.format().metadata_size.get() > 0 {
        return Err("it has metadata");
    }
    let nonzero = |id: &[u8]| id.iter().any(|byte| *byte != 0);
    let mut nguid = Some(identify.nguid).filter(|id| nonzero(id));
    let mut eui64 = Some(identify.eui64).filter(|id| nonzero(id));
    let mut own = None;
    for descriptor in namespace_descriptors(descriptors) {
        match descriptor {
            NamespaceDescriptor::Uuid(uuid) => own = Some(uuid).filter(|id| nonzero(id)),
            NamespaceDescriptor::Nguid(id) => nguid = Some(id),
            NamespaceDescriptor::Eui64(id) => eui64 = Some(id),
            NamespaceDescriptor::CommandSet(csi) if csi != Csi::NVM => {
                return Err("it is of another command set than NVM");
            }
            NamespaceDescriptor::CommandSet(_) => {}
        }
    }
    let made = || match eui64 {
        Some(eui64) => uuid::derive(&[b"eui64", &eui64]),
        None => uuid::derive(&[b"serial", &controller.sn, &controller.mn, &nsid.to_le_bytes()]),
    };
    let copy_max =
        if controller.copies() { identify.mcl.get().min(identify.mssrl.get().into()) } else { 0 };
    Ok(Namespace {
        nsid,
        block_size,
        blocks: identify.nsze.get().min(u64::MAX >> block_size.trailing_zeros()),
        uuid: own.or(nguid).unwrap_or_else(made),
        optimal_boundary: identify.noiob.get().into(),
        copy_max,
        access: Access::Optimized,
    })
}
