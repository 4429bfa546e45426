use serde_json::{Value, json};

use super::*;

fn view() -> View {
    let sample = |seconds: u64| Sample {
        at_ns: seconds * 1_000_000_000,
        reactors: Vec::new(),
        threads: Vec::new(),
        bdevs: (0..9)
            .map(|n: u64| json!({"name": format!("Ram{n}"), "num_read_ops": n * seconds}))
            .collect::<Vec<Value>>(),
        groups: Vec::new(),
        queues: Vec::new(),
    };
    let mut view = View::new("127.0.0.1:5260".to_owned());
    view.samples = Some((sample(1), sample(2)));
    view
}

fn press(view: &mut View, code: KeyCode) -> Effect {
    view.on_event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn names(view: &mut View, height: usize) -> Vec<String> {
    let (lines, heading) = view.frame(80, height);
    let rows = lines[heading + 1..].iter();
    rows.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_section_is_chosen_by_its_number_and_shown_under_its_heading() {
    let mut view = view();
    assert_eq!(press(&mut view, KeyCode::Char('3')), Effect::Redraw);
    let (lines, heading) = view.frame(44, 24);
    assert_eq!(lines[0], " 1 Cores   2 Pollers  [3 Bdevs]  4 Connectio");
    assert_eq!(lines[heading], "BDEV  READS/s  WRITES/s  READ MiB/s");
    assert!(lines.iter().all(|line| line.chars().count() <= 44));
    assert_eq!(names(&mut view, 24).len(), 9);
    assert_eq!(press(&mut view, KeyCode::Tab), Effect::Redraw);
    assert_eq!(view.section, 3);
    assert_eq!(view.frame(80, 24).0[3], "no host is connected");
    assert_eq!(press(&mut view, KeyCode::Tab), Effect::Redraw);
    assert_eq!(view.section, 0);
}

#[test]
fn rows_are_sorted_and_scrolled_as_far_as_there_are_any() {
    let mut view = view();
    press(&mut view, KeyCode::Char('3'));
    assert_eq!(names(&mut view, 6), ["Ram0", "Ram1", "Ram2"]);
    press(&mut view, KeyCode::Char('s'));
    press(&mut view, KeyCode::Char('s'));
    assert_eq!(names(&mut view, 6), ["Ram8", "Ram7", "Ram6"]);
    press(&mut view, KeyCode::Char('r'));
    assert_eq!(names(&mut view, 6), ["Ram0", "Ram1", "Ram2"]);
    (0..50).for_each(|_| _ = press(&mut view, KeyCode::Down));
    assert_eq!(names(&mut view, 6), ["Ram6", "Ram7", "Ram8"]);
    press(&mut view, KeyCode::Up);
    assert_eq!(names(&mut view, 6), ["Ram5", "Ram6", "Ram7"]);
    // After the last column comes the order in which they came.
    (0..6).for_each(|_| _ = press(&mut view, KeyCode::Char('s')));
    assert_eq!(view.sorting[2].column, None);
}

#[test]
fn pages_are_turned_to_both_ends() {
    let mut view = view();
    press(&mut view, KeyCode::Char('3'));
    for (code, expected) in [
        (KeyCode::PageDown, ["Ram4", "Ram5", "Ram6", "Ram7"]),
        (KeyCode::PageDown, ["Ram5", "Ram6", "Ram7", "Ram8"]),
        (KeyCode::PageUp, ["Ram1", "Ram2", "Ram3", "Ram4"]),
        (KeyCode::End, ["Ram5", "Ram6", "Ram7", "Ram8"]),
        (KeyCode::Up, ["Ram4", "Ram5", "Ram6", "Ram7"]),
        (KeyCode::Home, ["Ram0", "Ram1", "Ram2", "Ram3"]),
    ] {
        let _ = view.frame(80, 7);
        assert_eq!(press(&mut view, code), Effect::Redraw);
        assert_eq!(names(&mut view, 7), expected, "{code:?}");
    }
}

/// The first lines at that size, with the keys and what of the rows is shown.
fn head(view: &mut View, width: usize, height: usize) -> [String; 3] {
    let (lines, _) = view.frame(width, height);
    [lines[0].clone(), lines[1].clone(), lines[2].clone()]
}

#[test]
fn how_to_quit_and_what_is_not_shown_are_told_at_every_size() {
    let mut view = view();
    press(&mut view, KeyCode::Char('3'));
    press(&mut view, KeyCode::Char('s'));
    let sections = " 1 Cores   2 Pollers  [3 Bdevs]  4 Connections   Basalt at 127.0.0.1:5260";
    let columns = "BDEV v  READS/s  WRITES/s  READ MiB/s  WRITE MiB/s  READ µs  WRITE µs";
    let keys = "q: quit  1-4, Tab: section  s: sort  r: reverse  arrows: scroll";
    let expected = [sections, keys, columns].map(str::to_owned);
    assert_eq!(head(&mut view, 80, 24), expected);
    let wide = head(&mut view, 160, 5)[1].clone();
    assert!(wide.starts_with(HELPS[0]) && wide.ends_with("  rows 1-2 of 9"), "{wide}");
    assert_eq!(wide.len(), 160);
    assert_eq!(
        head(&mut view, 60, 8)[1],
        "q: quit  1-4  s: sort  r: reverse              rows 1-5 of 9"
    );
    press(&mut view, KeyCode::End);
    assert!(head(&mut view, 60, 8)[1].ends_with("  rows 5-9 of 9"));
    for width in [80, 100, 160] {
        let [sections, keys, columns] = head(&mut view, width, 6);
        assert!(sections.contains("[3 Bdevs]") && sections.ends_with(":5260"), "{sections}");
        assert!(keys.starts_with("q: quit") && keys.contains("s: sort"), "{keys}");
        assert!(columns.ends_with("WRITE µs"), "{columns}");
    }
}

#[test]
fn a_terminal_of_any_size_is_written_to_within_its_bounds() {
    for (width, height) in [(0, 0), (1, 1), (5, 2), (200, 3), (80, 4)] {
        let (lines, _) = view().frame(width, height);
        assert!(lines.len() <= height, "{width}x{height}");
        assert!(lines.iter().all(|line| line.chars().count() <= width));
    }
}

#[test]
fn several_keys_end_it() {
    let quit = [KeyCode::Char('q'), KeyCode::Esc].map(|code| press(&mut view(), code));
    assert_eq!(quit, [Effect::Quit; 2]);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view().on_event(&Event::Key(ctrl_c)), Effect::Quit);
    assert_eq!(press(&mut view(), KeyCode::Char('x')), Effect::Nothing);
    assert_eq!(view().on_event(&Event::Resize(10, 10)), Effect::Redraw);
}
