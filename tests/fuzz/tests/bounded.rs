//! Every target takes so many inputs, in as many threads as there are processors.

use basalt_fuzz::{ALL, bounded, targets};

/// A target's inputs.
fn run(name: &str) {
    bounded(targets::named(name));
}

#[test]
fn acpi_tables_cannot_break_their_readers() {
    run("acpi_tables");
}

#[test]
fn configurations_are_read_or_refused_and_come_back_as_they_are() {
    run("config_file");
}

#[test]
fn images_are_converted_or_refused() {
    run("elf_image");
}

#[test]
fn partition_tables_make_partitions_where_they_may_be() {
    run("gpt_table");
}

#[test]
fn http_requests_are_all_answered_or_refused() {
    run("http_requests");
}

#[test]
fn a_partition_that_a_configuration_was_saved_in_is_read_or_refused_and_can_be_saved_to() {
    run("kept_config");
}

#[test]
fn frames_cannot_break_the_stacks() {
    run("net_frames");
}

#[test]
fn an_nvme_controller_that_lies_loses_no_io_and_no_memory() {
    run("nvme_device");
}

#[test]
fn what_a_controller_sends_ends_each_command_of_the_initiator_once_or_its_connection() {
    run("nvmf_host");
}

#[test]
fn what_a_controller_says_of_itself_is_used_or_refused_and_let_go_of() {
    run("nvmf_initiator");
}

#[test]
fn nvmf_pdus_cannot_break_their_receiver() {
    run("nvmf_pdu");
}

#[test]
fn nvmf_commands_are_all_answered_well() {
    run("nvmf_session");
}

#[test]
fn nvmf_streams_cannot_break_the_target() {
    run("nvmf_stream");
}

#[test]
fn configuration_space_cannot_break_its_readers() {
    run("pci_config");
}

#[test]
fn json_rpc_calls_are_all_answered_and_can_be_saved() {
    run("rpc_stream");
}

#[test]
fn a_virtio_disk_that_lies_loses_no_io_and_no_memory() {
    run("virtio_disk");
}

#[test]
fn a_virtio_card_that_lies_cannot_break_its_driver() {
    run("virtio_net");
}

#[test]
fn every_target_has_seeds_and_a_name_of_its_own() {
    for (at, target) in ALL.iter().enumerate() {
        assert!(!(target.seeds)().is_empty(), "{}", target.name);
        assert!(ALL[..at].iter().all(|other| other.name < target.name), "{}", target.name);
    }
}
