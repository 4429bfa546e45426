//! What disks there are.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use basalt_bdev::SgList;
use basalt_env::{Device, DmaPool};
use basalt_reactor::sync::oneshot;
use basalt_virtio_blk::{Disk, ID_LEN};
use basalt_virtio_scsi::{
    Address, BlockLimits, Capacity, Cdb, Failure, Host, Inquiry, Provisioning, outcome,
    serial_number, vpd,
};

use crate::job::{Question, Reply};
use crate::manager::{Manager, Shape};
use crate::queue::CoreQueues;
use crate::unit::{Header, ScsiDisk, Unit, scsi_header};

/// How long the device may take over an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How often a unit that has something to tell first is asked again, and after how long.
const TRIES: u32 = 20;
const TRY_PERIOD: Duration = Duration::from_millis(10);
/// Bytes asked for of any page.
const PAGE_LEN: u16 = 252;
/// Bytes of INQUIRY data that say what it is.
const INQUIRY_LEN: u16 = 36;
const SECTOR: u32 = 512;

/// A disk of a SCSI host, and its serial number.
type Found = (ScsiDisk, String);

/// Why a command gave nothing.
enum Trouble {
    /// The host has not answered in time, and so will hardly answer the next one.
    Silence,
    /// It has said why.
    Failure(Failure),
}

impl<D: Device + 'static> Manager<D>
where
    D::Registers: Send,
{
    /// Makes bdevs of the disks there are now, as far as they are none yet; those of others go.
    pub(crate) async fn look_for_disks(&self) {
        match self.shape {
            Shape::Blk(disk) => self.show_blk(disk).await,
            Shape::Scsi(host) => self.look_for_targets(host).await,
        }
    }

    async fn show_blk(&self, disk: Disk) {
        let header = disk.header(basalt_virtio_blk::Request::Id);
        let reply = self.ask(Header::new(header.as_slice()), ID_LEN as u16).await;
        let known = reply.filter(|reply| reply.response[0] == 0);
        let serial = known.map_or_else(String::new, |reply| {
            let bytes = bytes_of(&reply.data);
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            ascii(&bytes[..end])
        });
        self.show(None, Unit::Blk(disk), &serial);
    }

    async fn look_for_targets(&self, host: Host) {
        let mut found = Vec::new();
        for target in 0..=host.target_max {
            let address = Address { target, lun: 0 };
            match self.look_at(host, address).await {
                Ok(disk) => found.extend(disk),
                Err(Trouble::Silence) => {
                    let name = self.name();
                    // What there is may be as it was: nothing is taken away.
                    return log::error!(
                        target: "bdev_virtio",
                        "{name}: no answer about target {target}; its disks are not looked at"
                    );
                }
                Err(Trouble::Failure(failure)) => {
                    let name = self.name();
                    log::error!(target: "bdev_virtio", "{name}: target {target}: {failure}");
                }
            }
        }
        self.remove_bdevs(|shown| {
            let is_it = |(disk, _): &Found| {
                Some(disk.address.target) == shown.target
                    && disk.block_size == shown.unit.limits().block_size
            };
            !found.iter().any(is_it)
        });
        for (disk, serial) in found {
            let (target, unit) = (Some(disk.address.target), Unit::Scsi(disk));
            let known = |target| {
                let shown = self.shown.borrow();
                shown.iter().find(|shown| shown.target == target).map(|shown| shown.unit)
            };
            match known(target) {
                None => self.show(target, unit, &serial),
                Some(old) if old.blocks() != disk.blocks => self.set_size(target, unit),
                Some(_) => {}
            }
        }
    }

    /// The disk at an address, if there is one.
    async fn look_at(&self, host: Host, address: Address) -> Result<Option<Found>, Trouble> {
        let inquiry =
            match self.command(address, Cdb::inquiry(None, INQUIRY_LEN), INQUIRY_LEN).await {
                Err(Trouble::Failure(Failure::BadTarget)) => return Ok(None),
                inquiry => Inquiry::read(&inquiry?),
            };
        if !inquiry.is_disk {
            return Ok(None);
        }
        // It may have something to tell first, which nobody wants to know.
        if let Err(Trouble::Silence) = self.command(address, Cdb::test_unit_ready(), 0).await {
            return Err(Trouble::Silence);
        }
        let len = Capacity::LEN_16 as u16;
        let capacity = match self.command(address, Cdb::read_capacity_16(len.into()), len).await {
            Ok(bytes) => Capacity::read_16(&bytes),
            Err(Trouble::Silence) => return Err(Trouble::Silence),
            Err(Trouble::Failure(_)) => {
                let len = Capacity::LEN_10 as u16;
                Capacity::read_10(&self.command(address, Cdb::read_capacity_10(), len).await?)
            }
        };
        let Capacity { blocks, block_size } = capacity;
        if !block_size.is_power_of_two() || !(SECTOR..=1 << 16).contains(&block_size) {
            let name = self.name();
            log::error!(
                target: "bdev_virtio",
                "{name}: target {} has blocks of {block_size} bytes; it is left out",
                address.target
            );
            return Ok(None);
        }
        let limits = BlockLimits::read(&self.page(address, vpd::BLOCK_LIMITS).await?);
        let provisioning = Provisioning::read(&self.page(address, vpd::PROVISIONING).await?);
        let serial = ascii(serial_number(&self.page(address, vpd::SERIAL_NUMBER).await?));
        let transfer_max = (host.sectors_max / (block_size / SECTOR)).max(1);
        let disk = ScsiDisk {
            address,
            blocks,
            block_size,
            segments_max: host.segments_max,
            transfer_max: match limits.transfer_max {
                0 => transfer_max,
                most => most.min(transfer_max),
            },
            unmap_max: if provisioning.has_unmap { limits.unmap_max } else { 0 },
        };
        Ok(Some((disk, serial)))
    }

    /// A page of vital product data; of one that the unit does not have, nothing.
    async fn page(&self, address: Address, page: u8) -> Result<Vec<u8>, Trouble> {
        let cdb = Cdb::inquiry(Some(page), PAGE_LEN);
        match self.command(address, cdb, PAGE_LEN).await {
            Ok(bytes) if bytes.get(1) == Some(&page) => Ok(bytes),
            Err(Trouble::Silence) => Err(Trouble::Silence),
            _ => Ok(Vec::new()),
        }
    }

    /// Has a unit carry out a command that gives so many bytes at most.
    async fn command(&self, address: Address, cdb: Cdb, len: u16) -> Result<Vec<u8>, Trouble> {
        for _ in 0..TRIES {
            let reply = self.ask(scsi_header(address, cdb), len).await.ok_or(Trouble::Silence)?;
            match outcome(&reply.response) {
                Ok(missing) => {
                    let mut bytes = bytes_of(&reply.data);
                    bytes.truncate(bytes.len().saturating_sub(missing as usize));
                    return Ok(bytes);
                }
                Err(Failure::TryAgain) => self.local.sleep(TRY_PERIOD).await,
                Err(failure) => return Err(Trouble::Failure(failure)),
            }
        }
        Err(Trouble::Failure(Failure::TryAgain))
    }

    /// Asks the device for so many bytes. `None` if it does not answer.
    async fn ask(&self, header: Header, len: u16) -> Option<Reply> {
        let data = match len {
            0 => SgList::Empty,
            len => {
                let pool: Rc<DmaPool> = self.local.service()?;
                let mut buf = pool.alloc(len.into()).ok()?;
                buf.as_mut_slice().fill(0);
                SgList::One(buf)
            }
        };
        let queue = CoreQueues::<D::Registers>::of(&self.local).find(self.id())?;
        let (answer, reply) = oneshot::channel();
        queue.ask(Question { header, data, answer });
        self.local.timeout(ANSWER_PATIENCE, reply).await.ok()?.ok()
    }
}

fn bytes_of(data: &SgList) -> Vec<u8> {
    data.as_slice().iter().flat_map(|buf| buf.as_slice()).copied().collect()
}

/// What of a text is printable.
fn ascii(bytes: &[u8]) -> String {
    let printable = bytes.iter().filter(|byte| byte.is_ascii_graphic() || **byte == b' ');
    let text: String = printable.map(|byte| char::from(*byte)).collect();
    String::from(text.trim())
}
