use alloc::borrow::ToOwned as _;
use alloc::rc::Rc;
use alloc::vec::Vec;

use serde_json::{Value, json};

use super::Machine;

fn machine() -> Machine {
    let mut machine = Machine::new();
    let params = json!({"name": "M", "num_blocks": 4096, "block_size": 512});
    machine.call("bdev_malloc_create", params).unwrap();
    machine
}

fn named(machine: &mut Machine, name: &str) -> Value {
    machine.call("bdev_get_bdevs", json!({"name": name})).unwrap()[0].take()
}

#[test]
fn a_passthru_bdev_claims_its_base_and_is_shown_as_spdk_shows_it() {
    let mut machine = machine();
    let params = json!({"name": "P", "base_bdev_name": "M"});
    assert_eq!(machine.call("bdev_passthru_create", params.clone()).unwrap(), "P");
    let shown = named(&mut machine, "P");
    assert_eq!(shown["product_name"], "passthru");
    let specific = json!({"passthru": {"name": "P", "base_bdev_name": "M"}});
    assert_eq!(shown["driver_specific"], specific);
    let base = named(&mut machine, "M");
    assert_eq!((&base["claimed"], &base["claim_type"]), (&json!(true), &json!("exclusive_write")));
    assert_eq!(machine.code("bdev_passthru_create", params), -17);
    let second = json!({"name": "Q", "base_bdev_name": "M"});
    assert_eq!(machine.code("bdev_passthru_create", second), -1);
    assert_eq!(machine.call("bdev_passthru_delete", json!({"name": "P"})).unwrap(), true);
    assert_eq!(machine.code("bdev_passthru_delete", json!({"name": "P"})), -19);
    assert_eq!(machine.code("bdev_passthru_delete", json!({"name": "M"})), -19);
}

#[test]
fn a_split_answers_with_its_parts_and_is_deleted_by_its_base() {
    let mut machine = machine();
    let params = json!({"base_bdev": "M", "split_count": 2, "split_size_mb": 1});
    assert_eq!(machine.call("bdev_split_create", params).unwrap(), json!(["Mp0", "Mp1"]));
    let part = named(&mut machine, "Mp1");
    assert_eq!(part["product_name"], "Split Disk");
    let specific = json!({"split": {"base_bdev": "M", "offset_blocks": 2048}});
    assert_eq!(part["driver_specific"], specific);
    assert_eq!(machine.call("bdev_split_delete", json!({"base_bdev": "M"})).unwrap(), true);
    assert_eq!(machine.code("bdev_get_bdevs", json!({"name": "Mp0"})), -19);
    let none = json!({"base_bdev": "M", "split_count": 0});
    assert_eq!(machine.code("bdev_split_create", none), -22);
    let large = json!({"base_bdev": "M", "split_count": 1, "split_size_mb": 3});
    assert_eq!(machine.code("bdev_split_create", large), -22);
}

#[test]
fn a_delay_is_shown_with_its_times_which_can_be_changed() {
    let mut machine = machine();
    let params = json!({
        "name": "D", "base_bdev_name": "M", "avg_read_latency": 1, "p99_read_latency": 2,
        "avg_write_latency": 3, "p99_write_latency": 4,
    });
    assert_eq!(machine.call("bdev_delay_create", params).unwrap(), "D");
    let update = json!({"delay_bdev_name": "D", "latency_type": "p99_read", "latency_us": 9});
    assert_eq!(machine.call("bdev_delay_update_latency", update).unwrap(), true);
    let specific = json!({"delay": {
        "name": "D", "base_bdev_name": "M", "avg_read_latency": 1, "p99_read_latency": 9,
        "avg_write_latency": 3, "p99_write_latency": 4,
    }});
    assert_eq!(named(&mut machine, "D")["driver_specific"], specific);
    let wrong = json!({"delay_bdev_name": "D", "latency_type": "slow", "latency_us": 9});
    assert_eq!(machine.code("bdev_delay_update_latency", wrong), -32602);
    let other = json!({"delay_bdev_name": "M", "latency_type": "p99_read", "latency_us": 9});
    assert_eq!(machine.code("bdev_delay_update_latency", other), -19);
}

#[test]
fn raids_are_made_shown_and_deleted_as_spdks_are() {
    let mut machine = machine();
    let params = json!({
        "name": "R", "strip_size_kb": 64, "raid_level": "0", "base_bdevs": ["M", "N"],
        "superblock": false,
    });
    assert_eq!(machine.call("bdev_raid_create", params.clone()).unwrap(), true);
    let get = |machine: &mut Machine, category| {
        machine.call("bdev_raid_get_bdevs", json!({"category": category})).unwrap()
    };
    let waiting = get(&mut machine, "configuring")[0].take();
    assert_eq!((&waiting["name"], &waiting["state"]), (&json!("R"), &json!("configuring")));
    assert_eq!(waiting["num_base_bdevs_discovered"], 1);
    assert_eq!(get(&mut machine, "online"), json!([]));
    let disk = json!({"name": "N", "num_blocks": 4096, "block_size": 512});
    machine.call("bdev_malloc_create", disk).unwrap();
    let raid = get(&mut machine, "online")[0].take();
    assert_eq!(raid["base_bdevs_list"][1]["name"], "N");
    let shown = named(&mut machine, "R");
    assert_eq!(
        (&shown["product_name"], &shown["num_blocks"]),
        (&json!("Raid Volume"), &json!(8192))
    );
    let specific = &shown["driver_specific"]["raid"];
    assert_eq!(
        (&specific["raid_level"], &specific["strip_size_kb"]),
        (&json!("raid0"), &json!(64))
    );
    assert_eq!(machine.code("bdev_raid_create", params), -17);
    for wrong in [
        json!({"name": "S", "raid_level": "raid9", "base_bdevs": ["M"], "strip_size_kb": 4}),
        json!({"name": "S", "raid_level": "concat", "base_bdevs": [], "strip_size_kb": 4}),
        json!({"name": "S", "raid_level": "concat", "base_bdevs": ["X"], "strip_size_kb": 3}),
        json!({"name": "S", "raid_level": "concat", "base_bdevs": ["X"], "strip_size_kb": 4,
               "superblock": true}),
        json!({"name": "S", "raid_level": "raid5f", "base_bdevs": ["M", "N"], "strip_size_kb": 4}),
    ] {
        assert_eq!(machine.code("bdev_raid_create", wrong.clone()), -22, "{wrong}");
    }
    assert_eq!(machine.code("bdev_raid_get_bdevs", json!({"category": "some"})), -32602);
    assert_eq!(machine.call("bdev_raid_delete", json!({"name": "R"})).unwrap(), true);
    assert_eq!(get(&mut machine, "all"), json!([]));
    assert_eq!(named(&mut machine, "M")["claimed"], false);
}

#[test]
fn a_mirror_is_changed_by_name_and_saved_as_it_is_then() {
    let mut machine = machine();
    machine.boot().provide(Rc::new(basalt_hosted::Machine::new().pool(4 << 20)));
    for name in ["N", "O"] {
        let disk = json!({"name": name, "num_blocks": 4096, "block_size": 512});
        machine.call("bdev_malloc_create", disk).unwrap();
    }
    let params = json!({"name": "R", "raid_level": "raid1", "base_bdevs": ["M", "N"]});
    assert_eq!(machine.call("bdev_raid_create", params).unwrap(), true);
    let uuid = named(&mut machine, "R")["uuid"].take();
    let saved = |machine: &mut Machine| {
        let config = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
        let mut calls = config.as_array().unwrap().iter();
        let raid = calls.find(|call| call["method"] == "bdev_raid_create");
        raid.unwrap()["params"].clone()
    };
    assert_eq!(saved(&mut machine)["uuid"], uuid);
    let add = |name| json!({"raid_bdev": "R", "base_bdev": name});
    assert_eq!(machine.code("bdev_raid_add_base_bdev", add("O")), -22, "it has two");
    let remove = |name| json!({"name": name});
    assert_eq!(machine.code("bdev_raid_remove_base_bdev", remove("O")), -19);
    assert_eq!(machine.call("bdev_raid_remove_base_bdev", remove("M")).unwrap(), true);
    assert_eq!(saved(&mut machine)["base_bdevs"], json!(["N"]));
    assert_eq!(machine.code("bdev_raid_remove_base_bdev", remove("N")), -16);
    let options = json!({"process_window_size_kb": 64, "process_max_bandwidth_mb_sec": 0});
    assert_eq!(machine.call("bdev_raid_set_options", options).unwrap(), true);
    let odd = json!({"process_window_size_kb": 65});
    assert_eq!(machine.code("bdev_raid_set_options", odd), -22);
    assert_eq!(machine.call("bdev_raid_add_base_bdev", add("O")).unwrap(), true);
    let raid = json!({"category": "online"});
    let shown = machine.call("bdev_raid_get_bdevs", raid.clone()).unwrap()[0].take();
    assert_eq!(
        (&shown["process"]["type"], &shown["process"]["target"]),
        (&json!("rebuild"), &json!("O"))
    );
    (0..2000).for_each(|_| machine.round());
    let shown = machine.call("bdev_raid_get_bdevs", raid).unwrap()[0].take();
    assert_eq!(shown["process"], Value::Null, "{shown}");
    let params = saved(&mut machine);
    assert_eq!((&params["base_bdevs"], &params["uuid"]), (&json!(["O", "N"]), &uuid));
    assert_eq!(
        machine.code("bdev_raid_add_base_bdev", json!({"raid_bdev": "M", "base_bdev": "O"})),
        -19
    );
}

#[test]
fn errors_are_injected_by_spdks_names() {
    let mut machine = machine();
    assert_eq!(machine.call("bdev_error_create", json!({"base_name": "M"})).unwrap(), true);
    let specific = json!({"error_disk": {"base_bdev": "M"}});
    assert_eq!(named(&mut machine, "EE_M")["driver_specific"], specific);
    for error in ["failure", "nvme_failure", "pending", "nomem"] {
        let params = json!({"name": "EE_M", "io_type": "all", "error_type": error, "num": 2});
        assert_eq!(machine.call("bdev_error_inject_error", params).unwrap(), true);
    }
    let corrupt = |value| {
        json!({"name": "EE_M", "io_type": "write", "error_type": "corrupt_data",
               "corrupt_offset": 5, "corrupt_value": value})
    };
    assert_eq!(machine.call("bdev_error_inject_error", corrupt(3)).unwrap(), true);
    assert_eq!(machine.code("bdev_error_inject_error", corrupt(0)), -22);
    for (io_type, error_type, code) in
        [("clear", "failure", 0), ("trim", "failure", -32602), ("read", "smoke", -32602)]
    {
        let params = json!({"name": "EE_M", "io_type": io_type, "error_type": error_type});
        let outcome = machine.call("bdev_error_inject_error", params.clone());
        assert_eq!(outcome.err().map_or(0, |error| error.code), code, "{params}");
    }
    let resume = |name: &str| json!({"name": name});
    assert_eq!(machine.call("bdev_error_resume_pending", resume("EE_M")).unwrap(), true);
    assert_eq!(machine.code("bdev_error_resume_pending", resume("M")), -19);
    let other = json!({"name": "M", "io_type": "clear", "error_type": "failure"});
    assert_eq!(machine.code("bdev_error_inject_error", other), -19);
    assert_eq!(machine.call("bdev_error_delete", json!({"name": "EE_M"})).unwrap(), true);
}

#[test]
fn a_configuration_with_virtual_bdevs_is_saved_and_may_name_bases_that_come_later() {
    let mut machine = Machine::new();
    let split = json!({"base_bdev": "M", "split_count": 2});
    assert_eq!(machine.call("bdev_split_create", split.clone()).unwrap(), json!([]));
    let passthru = json!({"name": "P", "base_bdev_name": "Mp0"});
    assert_eq!(machine.call("bdev_passthru_create", passthru.clone()).unwrap(), "P");
    let malloc = json!({"name": "M", "num_blocks": 64, "block_size": 512});
    machine.call("bdev_malloc_create", malloc).unwrap();
    assert_eq!(named(&mut machine, "P")["num_blocks"], 32);
    let saved = |machine: &mut Machine| {
        let config = machine.call("framework_get_config", json!({"name": "bdev"})).unwrap();
        let calls = config.as_array().unwrap().clone();
        let method = |call: &Value| call["method"].as_str().unwrap().to_owned();
        calls.iter().map(method).filter(|name| name.ends_with("create")).collect::<Vec<_>>()
    };
    let all = ["bdev_split_create", "bdev_passthru_create", "bdev_malloc_create"];
    assert_eq!(saved(&mut machine), all);
    machine.call("bdev_malloc_delete", json!({"name": "M"})).unwrap();
    assert_eq!(saved(&mut machine), all[..2], "they wait for the next M");
    machine.call("bdev_passthru_delete", json!({"name": "P"})).unwrap();
    assert_eq!(saved(&mut machine), all[..1]);
}
