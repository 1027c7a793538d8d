//! The pages in a real browser, as administrators use them.

use std::path::Path;
use std::process::Command;

use super::{Console, PASSWORD};
use crate::clients::{installed, scripts};
use crate::support::SECRET;

/// Pictures of pages, for the documentation.
const PICTURES: [&str; 5] = [
    "overview.png",
    "overview-dark.png",
    "integrations.png",
    "decision.png",
    "new-integration.png",
];

#[test]
fn chromium_goes_through_every_page_of_the_console() {
    let console = Console::start().with_history();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/console-screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    for picture in PICTURES {
        let _ = std::fs::remove_file(folder.join(picture));
    }
    let output = Command::new(installed().join("venv/bin/python"))
        .arg(scripts().join("console.py"))
        .env("BASE", format!("http://{}", console.address))
        .env("GATEWAY", format!("http://127.0.0.1:{}", console.gateway.address.port()))
        .env("CLIENT_ID", "crm")
        .env("CLIENT_SECRET", SECRET)
        .env("PASSWORD", PASSWORD)
        .env("CLIENTS", installed())
        .env("FOLDER", console.gateway.folder.path())
        .env("SHOTS", &folder)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}\n{}", console.gateway.log());
    assert!(text.lines().filter(|line| line.starts_with("ok ")).count() >= 12, "{text}");
    for picture in PICTURES {
        assert!(std::fs::metadata(folder.join(picture)).unwrap().len() > 5_000, "{picture}");
    }
}
