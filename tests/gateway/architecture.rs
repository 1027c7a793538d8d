//! The order of modules in lib.rs is the order of dependencies, and the inner ring is pure.

use std::collections::BTreeMap;
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

/// Uses of `crate::name` in code, comments and documentation left out.
fn uses(text: &str) -> Vec<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
    }
    names
}

/// Arrows that run back, as `from -> to`.
fn backward(modules: &[(String, bool)], texts: &BTreeMap<String, String>) -> Vec<String> {
    let position: BTreeMap<&str, usize> =
        modules.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let mut wrong = Vec::new();
    for (at, (module, _)) in modules.iter().enumerate() {
        for used in uses(&texts[module]) {
            if position.get(used.as_str()).is_some_and(|other| *other > at) {
                wrong.push(format!("{module} -> {used}"));
            }
        }
    }
    wrong
}

fn texts(modules: &[(String, bool)]) -> BTreeMap<String, String> {
    let read = |module: &str| {
        sources(module).iter().map(|file| std::fs::read_to_string(file).unwrap()).collect::<Vec<_>>().join("\n")
    };
    modules.iter().map(|(module, _)| (module.clone(), read(module))).collect()
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
