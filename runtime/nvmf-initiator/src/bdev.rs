use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;

use basalt_bdev::{
    Bdev, BdevInfo, Io, IoChannel, IoError, Lenders, Op, OpenError, RejectReason, SgList,
    remote_channel,
};
use basalt_env::{CoreId, Work};
use basalt_nvme_spec::identify::Oncs;
use basalt_nvme_spec::{Command, Status, fabrics};
use basalt_reactor::Local;

use super::discover::Namespace;
use super::remote::Remote;
use super::remotes::Remotes;
use super::session::Session;
use basalt_nvmf_host::Inbox;
use basalt_nvmf_host::NamespaceId;
use basalt_nvmf_host::Pending;
use basalt_nvmf_host::{CoreHost, News};

/// What the bdevs are, as SPDK prints it.
const PRODUCT_NAME: &str = "NVMe disk";

/// A namespace of a remote subsystem as a bdev. Its module-specific part of `bdev_get_bdevs`, which
/// changes with its paths, is made of [`Remotes::list`].
pub(super) struct RemoteBdev {
    info: BdevInfo,
    id: NamespaceId,
    controller: String,
    optional: Oncs,
    copy_max: u32,
    lenders: Arc<Lenders>,
}

impl RemoteBdev {
    pub(super) fn new(
        remote: &Remote,
        session: &Session,
        (id, name): (NamespaceId, &str),
        namespace: &Namespace,
        uuid: [u8; 16],
    ) -> Self {
        Self {
            info: BdevInfo {
                name: name.into(),
                product_name: PRODUCT_NAME,
                block_size: namespace.block_size,
                num_blocks: namespace.blocks.into(),
                uuid,
                optimal_io_boundary: namespace.optimal_boundary,
            },
            id,
            controller: remote.options.name.clone(),
            optional: session.identify.oncs(),
            copy_max: namespace.copy_max,
            lenders: Arc::clone(remote.lenders()),
        }
    }
}

impl Bdev for RemoteBdev {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        match op {
            Op::Read | Op::Write | Op::Flush | Op::Reset | Op::NvmeIo => true,
            Op::Unmap => self.optional.contains(Oncs::DATASET_MANAGEMENT),
            Op::WriteZeroes => self.optional.contains(Oncs::WRITE_ZEROES),
            Op::Compare => self.optional.contains(Oncs::COMPARE),
            Op::WriteUncorrectable => self.optional.contains(Oncs::WRITE_UNCORRECTABLE),
            Op::Verify => self.optional.contains(Oncs::VERIFY),
            Op::Copy => self.copy_max > 0,
            _ => false,
        }
    }

    fn can_abort(&self) -> bool {
        true
    }

    fn channel(&self, local: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        let (id, controller) = (self.id, self.controller.clone());
        if self.lenders.iter().any(|core| core == local.core()) {
            return open(local, id, controller);
        }
        let lender = self.lenders.lender_of(local.core()).ok_or(OpenError::NoQueueOnCore)?;
        remote_channel(local, lender, move |local: &Local| open(local, id, controller))
    }
}

fn open(
    local: &Local,
    id: NamespaceId,
    controller: String,
) -> Result<Box<dyn IoChannel>, OpenError> {
    let host = CoreHost::of(local).ok_or(OpenError::NoQueueOnCore)?;
    let namespace = host.namespace(id).ok_or(OpenError::Removed)?;
    let inbox = namespace.open();
    Ok(Box::new(RemoteChannel { local: local.clone(), host, controller, inbox }))
}

/// One core's way to a remote namespace.
struct RemoteChannel {
    local: Local,
    host: Rc<CoreHost>,
    controller: String,
    inbox: Rc<Inbox>,
}

impl RemoteChannel {
    /// Ends a command as a controller would that does not know it.
    #[cold]
    fn refuse(&self, io: &mut Io) -> Result<(), RejectReason> {
        if self.inbox.is_full() {
            return Err(RejectReason::QueueFull);
        }
        self.inbox.expect();
        let mut io = io.take();
        let status = Status::INVALID_OPCODE;
        io.status = Err(IoError::Nvme { sct: status.sct(), sc: status.sc(), dnr: true });
        self.inbox.put(io);
        Ok(())
    }

    /// Has all paths connected anew.
    #[cold]
    fn reset(&self, io: &mut Io) -> Result<(), RejectReason> {
        if self.inbox.is_full() {
            return Err(RejectReason::QueueFull);
        }
        self.inbox.expect();
        let (waits, inbox) = (self.local.clone(), Rc::clone(&self.inbox));
        let (mut io, name) = (io.take(), self.controller.clone());
        self.local.spawn("bdev_nvme_reset", async move {
            let order = move |local: Local| async move {
                Remotes::of(&local).reset(&name, None).await.is_ok()
            };
            let is_back = waits.run_on(CoreId::BOOT, order).await.unwrap_or(false);
            io.status = if is_back { Ok(()) } else { Err(IoError::Removed) };
            inbox.put(io);
        });
        Ok(())
    }
}

/// Whether a command is one that can go to an I/O queue by itself and moves data one way.
fn may_pass(io: &Io) -> bool {
    const BIDIRECTIONAL: u32 = 3;
    let SgList::Nvme(passthru) = &io.data else { return false };
    let [opcode_and_flags, ..] = passthru.command;
    let opcode = opcode_and_flags & 0xff;
    let fused = opcode_and_flags >> 8 & u32::from(Command::FLAG_FUSE_MASK);
    opcode != u32::from(fabrics::OPCODE) && opcode & 3 != BIDIRECTIONAL && fused == 0
}

impl IoChannel for RemoteChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        match io.op {
            Op::Reset => self.reset(io),
            Op::NvmeIo if !may_pass(io) => self.refuse(io),
            _ => self.inbox.submit(io),
        }
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.inbox.drain(done)
    }

    /// What was not sent yet ends; the controller is asked to abort what it has.
    fn abort(&mut self, tag: u64) -> bool {
        let mut any = self.inbox.abort_parked(tag);
        let is_it =
            |pending: &Pending| pending.io.tag == tag && Rc::ptr_eq(&pending.inbox, &self.inbox);
        for link in self.host.links() {
            let (sent, unsent) = link.give_up(is_it);
            any |= unsent || !sent.is_empty();
            for cid in sent {
                let news = News::Unwanted(link.path, link.run, link.qid, cid);
                CoreHost::tell(&self.local, news);
            }
        }
        any
    }
}

impl Drop for RemoteChannel {
    fn drop(&mut self) {
        self.inbox.close();
    }
}
