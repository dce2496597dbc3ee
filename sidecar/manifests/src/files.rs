//! The files of a folder, as text.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chaperone_crds::ConditionReason;
use zeroize::Zeroizing;

use super::{DEFAULT_NAMESPACE, Manifests, Problem, Unreadable};

/// A manifest's text. It may hold a Secret, so it is wiped when dropped.
pub(super) struct ManifestFile {
    pub path: PathBuf,
    pub text: Zeroizing<String>,
    /// Any user of the machine may read it.
    pub world_readable: bool,
}

/// The largest file that is read, in bytes: what etcd would take of one object, several times over.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Files that are read from one folder.
const MAX_FILES: usize = 1000;

pub(super) fn read(folder: &Path, manifests: &mut Manifests) -> Vec<ManifestFile> {
    let paths = match list(folder) {
        Ok(paths) => paths,
        Err(error) => {
            refuse(
                manifests,
                folder,
                format!("cannot be read as a folder of manifests: {error}"),
            );
            return Vec::new();
        }
    };
    if paths.len() > MAX_FILES {
        let message = format!(
            "has {} manifests; at most {MAX_FILES} are read",
            paths.len()
        );
        refuse(manifests, folder, message);
    }
    let mut files = Vec::new();
    for path in paths.into_iter().take(MAX_FILES) {
        match read_file(&path) {
            Ok(file) => files.push(file),
            Err(message) => refuse(manifests, &path, message),
        }
    }
    files
}

/// Reports a file nothing is known of. It may hold a policy.
pub(super) fn refuse(manifests: &mut Manifests, path: &Path, message: String) {
    let problem = Problem {
        file: path.to_owned(),
        line: 0,
        column: 0,
        field: String::new(),
        message,
        reason: ConditionReason::Unreadable,
    };
    manifests.unreadable.push(Unreadable {
        namespace: DEFAULT_NAMESPACE.to_owned(),
        name: path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        connections: None,
        message: problem.to_string(),
    });
    manifests.problems.push(problem);
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = path.extension().is_some_and(|extension| {
            extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml")
        });
        if is_yaml && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read_file(path: &Path) -> Result<ManifestFile, String> {
    // Asked before opening: opening a FIFO would wait for a writer for ever.
    let metadata = fs::metadata(path).map_err(|error| match fs::symlink_metadata(path) {
        Ok(link) if link.is_symlink() => format!("is a link to nowhere: {error}"),
        _ => format!("cannot be read: {error}"),
    })?;
    if !metadata.is_file() {
        return Err("is not a file; subfolders are not read".to_owned());
    }
    let too_large = || format!("is larger than {} KiB; split it", MAX_FILE_BYTES >> 10);
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| format!("is not UTF-8 text: byte {} is wrong", error.valid_up_to()))?;
    Ok(ManifestFile {
        path: path.to_owned(),
        text: Zeroizing::new(text.to_owned()),
        world_readable: is_world_readable(&metadata),
    })
}

#[cfg(unix)]
fn is_world_readable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn is_world_readable(_: &fs::Metadata) -> bool {
    false
}
