//! Zoned namespaces (Zoned Namespace command set 1.1).

use basalt_env::{Device, Registers};
use basalt_nvme_spec::identify::size_limit;
use basalt_nvme_spec::{
    Cns, Command, Csi, IdentifyNamespace, IdentifyZonedController, IdentifyZonedNamespace,
    ZoneAction,
};
use zerocopy::FromBytes;

use crate::describe::NoData;
use crate::discover::failed;
use crate::payload::pieces;
use crate::{
    AdminError, Controller, InitError, IoQueue, Namespace, Payload, RejectReason, Rejected, Ticket,
    UnusableNamespace, Zones,
};

impl<D: Device> Controller<D> {
    /// Asks for the zones of a namespace.
    pub(crate) async fn add_zones(
        &self,
        namespace: Namespace,
        own: &IdentifyNamespace,
    ) -> Result<Result<Namespace, UnusableNamespace>, InitError> {
        let command = Command::identify_csi(Cns::NAMESPACE_FOR_CSI, namespace.nsid(), Csi::ZONED);
        let page = self.page(command).await.map_err(failed(command))?;
        let zoned = IdentifyZonedNamespace::read_from_bytes(page.as_slice())
            .map_err(|_| failed(command)(AdminError::BadData))?;
        let append_max = self.append_bytes_max().await?;
        Ok(namespace.with_zones(own, &zoned, append_max))
    }

    /// Most bytes of a Zone Append.
    async fn append_bytes_max(&self) -> Result<u64, InitError> {
        let command = Command::identify_csi(Cns::CONTROLLER_FOR_CSI, 0, Csi::ZONED);
        let page = self.page(command).await.map_err(failed(command))?;
        let zoned = IdentifyZonedController::read_from_bytes(page.as_slice())
            .map_err(|_| failed(command)(AdminError::BadData))?;
        let limit = size_limit(zoned.zasl, self.cap.page_size_min());
        Ok(limit.unwrap_or(u64::MAX).min(self.transfer_max()))
    }
}

impl<R: Registers, T> IoQueue<R, T> {
    /// Opens, closes, finishes or resets the zone that begins at `zone`.
    pub fn manage_zone(
        &mut self,
        ns: &Namespace,
        zone: u64,
        action: ZoneAction,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        match zone_at(ns, zone) {
            Ok(_) => self.submit(Command::zone_send(ns.nsid(), zone, action), payload, NoData),
            Err(reason) => Err(Rejected { payload, reason }),
        }
    }
}

impl<R: Registers, T: Payload> IoQueue<R, T> {
    /// Writes `blocks` from the payload's buffers to where the next write goes of the zone that
    /// begins at `zone`; the completion's result is where that is.
    pub fn append(
        &mut self,
        ns: &Namespace,
        zone: u64,
        blocks: u32,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let reason = match zone_at(ns, zone) {
            Err(reason) => reason,
            Ok(zones) if blocks > zones.append_max => RejectReason::MaxTransfer,
            Ok(_) if blocks == 0 => RejectReason::OutOfRange,
            Ok(_) => {
                let command = Command::zone_append(ns.nsid(), zone, blocks);
                return self.submit_data(command, ns.bytes(blocks), payload);
            }
        };
        Err(Rejected { payload, reason })
    }

    /// Asks for what there is to be told of the zones from the one of block `lba` on: as much as
    /// the payload's buffers hold, a [`ZoneReportHeader`](basalt_nvme_spec::ZoneReportHeader)
    /// first.
    pub fn report_zones(
        &mut self,
        ns: &Namespace,
        lba: u64,
        payload: T,
    ) -> Result<Ticket, Rejected<T>> {
        let bytes = pieces(&payload).map(|(_, len)| len).sum::<u64>();
        let reason = if ns.zones().is_none() {
            RejectReason::Unsupported
        } else if !ns.contains(lba, 1) {
            RejectReason::OutOfRange
        } else if bytes == 0 || !bytes.is_multiple_of(4) {
            RejectReason::BadLength
        } else if bytes > self.transfer_max() {
            RejectReason::MaxTransfer
        } else {
            let command = Command::zone_report(ns.nsid(), lba, bytes as u32);
            return self.submit_data(command, bytes, payload);
        };
        Err(Rejected { payload, reason })
    }
}

/// The zones of a namespace, if one of them begins at that block.
fn zone_at(ns: &Namespace, zone: u64) -> Result<Zones, RejectReason> {
    let zones = ns.zones().ok_or(RejectReason::Unsupported)?;
    let begins = zone.is_multiple_of(zones.blocks) && ns.contains(zone, 1);
    if begins { Ok(zones) } else { Err(RejectReason::OutOfRange) }
}
