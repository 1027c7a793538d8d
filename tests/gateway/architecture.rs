//! The order of modules in lib.rs is the order of dependencies, and the inner ring is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The modules in the order of lib.rs, each with whether it is of the outer ring.
fn modules(lib: &str) -> Vec<(String, bool)> {
    let mut outer = false;
    let mut modules = Vec::new();
    for line in lib.lines() {
        match line.trim().strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            Some(name) => modules.push((name.to_owned(), std::mem::take(&mut outer))),
            None => outer = line.contains("feature = \"server\""),
        }
    }
    modules
}

fn sources(module: &str) -> Vec<PathBuf> {
    let src = Path::new(ROOT).join("src");
    let mut files = vec![src.join(format!("{module}.rs"))];
    let mut folders = vec![src.join(module)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// Code without its comments and documentation.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The names that follow a prefix such as `crate::`: one, or those of a group in braces.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        // Not the end of another path, such as `other_crate::`.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let name = |text: &str| {
            text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        };
        if !rest.starts_with('{') {
            names.push(name(rest));
            continue;
        }
        let (mut depth, mut begins) = (0, false);
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if begins && !c.is_whitespace() {
                names.push(name(&rest[at..]));
                begins = false;
            }
            begins |= depth == 1 && (c == '{' || c == ',');
            if depth == 0 {
                break;
            }
        }
        names.retain(|name| !name.is_empty());
    }
    names
}

/// Arrows that run back, as `from -> to`.
fn backward(modules: &[(String, bool)], texts: &BTreeMap<String, String>) -> Vec<String> {
    let position: BTreeMap<&str, usize> =
        modules.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let mut wrong = Vec::new();
    for (at, (module, _)) in modules.iter().enumerate() {
        for used in names_after(&code(&texts[module]), "crate::") {
            if position.get(used.as_str()).is_some_and(|other| *other > at) {
                wrong.push(format!("{module} -> {used}"));
            }
        }
    }
    wrong
}

fn texts(modules: &[(String, bool)]) -> BTreeMap<String, String> {
    let read = |module: &str| {
        sources(module)
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect::<Vec<_>>()
            .join("\n")
    };
    modules.iter().map(|(module, _)| (module.clone(), read(module))).collect()
}

/// The rooms of the server, in the order of server.rs.
fn rooms() -> Vec<String> {
    let server = std::fs::read_to_string(Path::new(ROOT).join("src/server.rs")).unwrap();
    modules(&server).into_iter().map(|(room, _)| room).collect()
}

/// Arrows between rooms that run back, as `file -> room`, by the files of all rooms. What a room
/// uses of server.rs itself, which stands below all of them, is an arrow to `server`.
fn backward_between_rooms(rooms: &[String], files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for (file, text) in files {
        let room = file.split("::").next().unwrap();
        let at = rooms.iter().position(|name| name == room).unwrap();
        let mut used = names_after(&code(text), "crate::server::");
        if file == room {
            // In its tests `super` is the file itself.
            let code = code(text.split("#[cfg(test)]").next().unwrap());
            used.extend(names_after(&code, "super::"));
        }
        for used in used {
            match rooms.iter().position(|name| *name == used) {
                Some(other) if other <= at => {}
                Some(_) => drop(wrong.insert(format!("{file} -> {used}"))),
                None => drop(wrong.insert(format!("{file} -> server"))),
            }
        }
    }
    wrong
}

/// The text of every file of the rooms, by its path in modules.
fn files_of_rooms(rooms: &[String]) -> BTreeMap<String, String> {
    let folder = Path::new(ROOT).join("src/server");
    let files = rooms.iter().flat_map(|room| sources(&format!("server/{room}")));
    files
        .map(|file| {
            let name = file.strip_prefix(&folder).unwrap().with_extension("");
            (name.to_str().unwrap().replace('/', "::"), std::fs::read_to_string(file).unwrap())
        })
        .collect()
}

#[test]
fn no_room_of_the_server_uses_one_below_it() {
    let rooms = rooms();
    assert!(rooms.len() > 10, "{rooms:?}");
    let mut files = files_of_rooms(&rooms);
    assert_eq!(backward_between_rooms(&rooms, &files), BTreeSet::new());
    // The check can fail: arrows that run back are seen, however they are written.
    for (file, use_of, arrow) in [
        ("edge::conn", "use crate::server::oauth::Endpoints;", "edge::conn -> oauth"),
        (
            "edge::conn",
            "use crate::server::{edge, proxy::{Exchange}, background};",
            "edge::conn -> background",
        ),
        ("edge", "use super::admin::probes;", "edge -> admin"),
        ("edge::conn", "let options = crate::server::Options::default();", "edge::conn -> server"),
    ] {
        let text = files.get_mut(file).unwrap();
        let before = text.clone();
        text.insert_str(0, use_of);
        assert!(backward_between_rooms(&rooms, &files).contains(arrow), "{arrow}");
        files.insert(file.to_owned(), before);
    }
}

#[test]
fn nobody_reaches_past_a_parent_module() {
    let lib = std::fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).unwrap();
    for (module, text) in texts(&modules(&lib)) {
        assert!(!code(&text).contains("super::super"), "{module}: say `crate::…`");
    }
}

#[test]
fn no_module_uses_one_below_it() {
    let lib = std::fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).unwrap();
    let modules = modules(&lib);
    assert!(modules.len() > 10, "{modules:?}");
    let mut texts = texts(&modules);
    assert_eq!(backward(&modules, &texts), [""; 0]);
    // The check can fail: an arrow that runs back is seen.
    texts.get_mut("names").unwrap().push_str("\nuse crate::policy::Rules;");
    assert_eq!(backward(&modules, &texts), ["names -> policy"]);
}

#[test]
fn the_inner_ring_names_nothing_impure() {
    const IMPURE: [&str; 12] = [
        "async ",
        "tokio",
        "pingora",
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::net::Tcp",
        "std::env",
        "reqwest",
        "rusqlite",
        "getrandom",
        "std::thread",
    ];
    let lib = std::fs::read_to_string(Path::new(ROOT).join("src/lib.rs")).unwrap();
    let modules = modules(&lib);
    let texts = texts(&modules);
    for (module, outer) in modules.iter().filter(|(_, outer)| !outer) {
        assert!(!outer);
        for line in texts[module].lines().map(|line| line.split("//").next().unwrap_or("")) {
            for word in IMPURE {
                assert!(!line.contains(word), "{module} names {word}: {line}");
            }
        }
    }
    assert!(modules.iter().any(|(module, outer)| module == "server" && *outer));
}

#[test]
fn every_file_that_the_architecture_names_is_there() {
    let src = Path::new(ROOT).join("src");
    let text = std::fs::read_to_string(src.join("ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> = text
        .split('`')
        .filter(|word| {
            Path::new(word).extension().is_some_and(|end| end == "rs") && !word.contains(' ')
        })
        .collect();
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        assert!(
            src.join(name).is_file() || Path::new(ROOT).join(name).is_file(),
            "{name} is not there"
        );
    }
    for room in rooms() {
        assert!(text.contains(&format!("| `{room}` |")), "the room `{room}` is not described");
    }
}

#[test]
fn no_line_has_more_than_a_hundred_columns() {
    const MAX_COLUMNS: usize = 100;
    /// A word that long, such as a digest or a URL in a literal, cannot be broken.
    const LONG_WORD: usize = 40;
    let root = Path::new(ROOT);
    let mut folders = vec![root.join("src"), root.join("tests"), root.join("benches")];
    let (mut files, mut long) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            files += 1;
            for (at, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
                let longest =
                    line.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0);
                if line.chars().count() > MAX_COLUMNS && longest < LONG_WORD {
                    long.push(format!("{}:{}", path.display(), at + 1));
                }
            }
        }
    }
    assert!(files > 300, "{files} files were looked at");
    assert_eq!(long, [""; 0]);
}

#[test]
fn every_heading_of_the_decisions_that_code_cites_is_there() {
    let decisions = std::fs::read_to_string(Path::new(ROOT).join("docs/decisions.md")).unwrap();
    let headings: BTreeSet<&str> = decisions
        .lines()
        .filter_map(|line| Some(line.strip_prefix('#')?.trim_start_matches('#').trim()))
        .collect();
    let mut cited = 0;
    let mut folders = vec![Path::new(ROOT).join("src"), Path::new(ROOT).join("tests/gateway")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            // A comment may break between the file and its heading.
            let words: String = text
                .lines()
                .map(|line| {
                    line.trim_start()
                        .trim_start_matches("///")
                        .trim_start_matches("//!")
                        .trim_start_matches("//")
                        .trim()
                })
                .collect::<Vec<_>>()
                .join(" ");
            for rest in words.split("decisions.md, \"").skip(1) {
                let heading = rest.split('"').next().unwrap();
                if path.ends_with("architecture.rs") {
                    continue;
                }
                cited += 1;
                assert!(
                    headings.contains(heading),
                    "{}: docs/decisions.md has no heading \"{heading}\"",
                    path.display()
                );
            }
        }
    }
    assert!(cited > 8, "{cited} headings are cited");
}
