//! What SPDK has and Basalt has not: each method is there, so that a client that asks for it, or
//! loads a configuration with it, is told why it cannot be.

use crate::{Router, RpcError, When, errno};

/// Why a feature is not there, its methods, and when they may be called in SPDK.
type Feature = (&'static str, &'static str, When);

const FEATURES: [Feature; 16] = [
    (
        "Logical volumes are not supported: use bdev_split_create or partitions of a drive",
        "bdev_lvol_create_lvstore bdev_lvol_delete_lvstore bdev_lvol_rename_lvstore \
         bdev_lvol_grow_lvstore bdev_lvol_get_lvstores bdev_lvol_get_lvols bdev_lvol_create \
         bdev_lvol_delete bdev_lvol_snapshot bdev_lvol_clone bdev_lvol_clone_bdev \
         bdev_lvol_rename bdev_lvol_resize bdev_lvol_inflate bdev_lvol_decouple_parent \
         bdev_lvol_set_parent bdev_lvol_set_parent_bdev bdev_lvol_set_read_only \
         bdev_lvol_start_shallow_copy bdev_lvol_check_shallow_copy",
        When::Runtime,
    ),
    (
        "Ceph RBD is not supported: its client needs an operating system; attach by NVMe/TCP",
        "bdev_rbd_register_cluster bdev_rbd_unregister_cluster bdev_rbd_get_clusters_info \
         bdev_rbd_create bdev_rbd_delete bdev_rbd_resize",
        When::Runtime,
    ),
    (
        "vhost is not supported: there are no other processes on this machine; export by NVMe/TCP",
        "vhost_create_scsi_controller vhost_start_scsi_controller vhost_create_blk_controller \
         vhost_delete_controller vhost_get_controllers vhost_scsi_controller_add_target \
         vhost_scsi_controller_remove_target vhost_controller_set_coalescing \
         virtio_blk_create_transport virtio_blk_get_transports",
        When::Runtime,
    ),
    (
        "vfio-user is not supported: there are no other processes on this machine; export by \
         NVMe/TCP",
        "vfu_tgt_set_base_path vfu_virtio_create_blk_endpoint vfu_virtio_create_fs_endpoint \
         vfu_virtio_create_scsi_endpoint vfu_virtio_delete_endpoint vfu_virtio_scsi_add_target \
         vfu_virtio_scsi_remove_target",
        When::Runtime,
    ),
    (
        "iSCSI is not supported: export by NVMe/TCP",
        "iscsi_get_options iscsi_create_portal_group iscsi_delete_portal_group \
         iscsi_start_portal_group iscsi_get_portal_groups iscsi_portal_group_set_auth \
         iscsi_create_initiator_group iscsi_delete_initiator_group iscsi_get_initiator_groups \
         iscsi_initiator_group_add_initiators iscsi_initiator_group_remove_initiators \
         iscsi_create_target_node iscsi_delete_target_node iscsi_get_target_nodes \
         iscsi_target_node_add_lun iscsi_target_node_add_pg_ig_maps \
         iscsi_target_node_remove_pg_ig_maps iscsi_target_node_request_logout \
         iscsi_target_node_set_auth iscsi_target_node_set_redirect iscsi_set_discovery_auth \
         iscsi_create_auth_group iscsi_delete_auth_group iscsi_get_auth_groups \
         iscsi_auth_group_add_secret iscsi_auth_group_remove_secret iscsi_get_connections \
         iscsi_get_stats iscsi_enable_histogram iscsi_get_histogram scsi_get_devices \
         bdev_iscsi_create bdev_iscsi_delete",
        When::Runtime,
    ),
    (
        "NBD is not supported: there is no Linux here to have the device; connect by NVMe/TCP",
        "nbd_start_disk nbd_stop_disk nbd_get_disks",
        When::Runtime,
    ),
    (
        "ublk is not supported: there is no Linux here to have the device; connect by NVMe/TCP",
        "ublk_create_target ublk_destroy_target ublk_start_disk ublk_stop_disk ublk_recover_disk \
         ublk_get_disks",
        When::Runtime,
    ),
    (
        "Keys are not supported: neither TLS nor DH-HMAC-CHAP is, which would need them",
        "keyring_file_add_key keyring_file_remove_key keyring_get_keys nvmf_subsystem_set_keys \
         bdev_nvme_set_keys",
        When::Any,
    ),
    (
        "Encryption is not supported",
        "bdev_crypto_create bdev_crypto_delete accel_crypto_key_create accel_crypto_key_destroy \
         accel_crypto_keys_get dpdk_cryptodev_scan_accel_module dpdk_cryptodev_set_driver \
         dpdk_cryptodev_get_driver",
        When::Any,
    ),
    (
        "Opal is not supported: send security commands with bdev_nvme_send_cmd",
        "bdev_nvme_opal_init bdev_nvme_opal_revert bdev_opal_create bdev_opal_delete \
         bdev_opal_get_info bdev_opal_new_user bdev_opal_set_lock_state",
        When::Runtime,
    ),
    (
        "There is no such accelerator: the processor does what it would do",
        "ioat_scan_accel_module dsa_scan_accel_module iaa_scan_accel_module \
         ae4dma_scan_accel_module cuda_scan_accel_module mlx5_scan_accel_module \
         compressdev_scan_accel_module accel_mlx5_dump_stats accel_set_driver \
         accel_error_inject_error",
        When::Any,
    ),
    (
        "Multicast DNS is not supported: name the addresses",
        "bdev_nvme_start_mdns_discovery bdev_nvme_stop_mdns_discovery \
         bdev_nvme_get_mdns_discovery_info nvmf_publish_mdns_prr nvmf_stop_mdns_prr",
        When::Runtime,
    ),
    (
        "Such bdevs are not supported",
        "bdev_daos_create bdev_daos_delete bdev_daos_resize bdev_xnvme_create bdev_xnvme_delete \
         bdev_kvmalloc_create bdev_kvmalloc_delete bdev_zone_block_create bdev_zone_block_delete \
         bdev_ftl_create bdev_ftl_delete bdev_ftl_get_properties bdev_ftl_get_stats \
         bdev_ftl_set_property bdev_ftl_unmap bdev_ocf_create bdev_ocf_delete \
         bdev_ocf_flush_start bdev_ocf_flush_status bdev_ocf_get_bdevs bdev_ocf_get_stats \
         bdev_ocf_reset_stats bdev_ocf_set_cache_mode bdev_ocf_set_seqcutoff",
        When::Runtime,
    ),
    (
        "File systems are not supported",
        "fsdev_aio_create fsdev_aio_delete fsdev_get_opts",
        When::Runtime,
    ),
    (
        "There is no operating system here to have the device",
        "bdev_nvme_cuse_register bdev_nvme_cuse_unregister",
        When::Runtime,
    ),
    (
        "Intel VMD is not supported: switch it off in the firmware, and its drives are found",
        "vmd_remove_device vmd_rescan",
        When::Runtime,
    ),
];

pub(super) fn register(router: &mut Router) {
    for (why, methods, when) in FEATURES {
        for name in methods.split_ascii_whitespace() {
            router.register(name, when, move |_, _| Err(RpcError::errno(errno::EOPNOTSUPP, why)));
        }
    }
}
