//! Every link of the pages that ship leads to a file, and to a heading in it, that exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folders in which pages ship.
const FOLDERS: [&str; 3] = ["", "docs", "deploy"];

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = FOLDERS.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    let mut pages: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.push(root.join("src/ARCHITECTURE.md"));
    pages
}

/// A page without its fenced blocks.
fn prose(page: &Path) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    let mut is_fenced = false;
    let outside = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    });
    outside.collect::<Vec<_>>().join("\n")
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept =
        heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &Path) -> BTreeSet<String> {
    let prose = prose(page);
    prose
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// The targets of links and pictures.
fn targets(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()).collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let (mut broken, mut followed) = (Vec::new(), 0);
    for page in pages() {
        let prose = prose(&page);
        for target in targets(&prose) {
            // Elsewhere, or an item of the code, which rustdoc resolves.
            if target.contains("://") || target.contains("::") {
                continue;
            }
            followed += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let is_there =
                file.exists() && (heading.is_empty() || anchors(&file).contains(heading));
            if !is_there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(followed > 100, "{followed} links");
}
