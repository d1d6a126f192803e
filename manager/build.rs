//! Takes the web page in, if it was built.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// A larger file is taken in as it was compressed, and only so; but for pages, which anybody may ask for.
const LARGE: u64 = 16 << 10;

fn main() -> io::Result<()> {
    println!("cargo::rustc-check-cfg=cfg(has_page)");
    // A directory that is not there would be looked for at each build: the page's build touches this file instead.
    println!("cargo::rerun-if-changed=build.rs");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    let (built, page) = (Path::new("web/dist"), Path::new(&out).join("page"));
    if page.exists() {
        fs::remove_dir_all(&page)?;
    }
    fs::create_dir_all(&page)?;
    if built.join("index.html").is_file() {
        copy(built, &page)?;
        println!("cargo::rustc-cfg=has_page");
    } else if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::warning=the web page is left out: `make page` builds it, and needs Node.js");
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.metadata()?.len() <= LARGE
            || is_page(&entry.path())
            || !packed(&entry.path()).is_file()
        {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn is_page(file: &Path) -> bool {
    file.extension().is_some_and(|it| it == "html")
}

/// Where a file is compressed, if it is.
fn packed(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}
