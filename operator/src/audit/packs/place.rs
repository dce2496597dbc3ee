//! Where packs are: a folder of the operator's volume, or a bucket. Objects are named by their digest,
//! so writing one twice is writing it once.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chaperone_crds::audit_store::NAMESPACE;
use chaperone_crds::{AuditBackend, ObjectStoreBackend};
use chaperone_evidence::audit::MAX_PACK;
use chaperone_wire::AllowSpecial;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::objects::{Credentials, Objects};

/// For one object, however often it is tried.
const DEADLINE: Duration = Duration::from_secs(90);
/// What a pack's file or object is called after its digest.
const SUFFIX: &str = ".pack";
/// What is not whole yet; one name, since one replica at a time writes here.
const DRAFT: &str = "draft";

/// Why there is no place, or it does not do what it is to.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The AuditStore names none.
    #[error("spec.backend of the AuditStore names no place for packs")]
    None,
    /// A volume is asked for that this operator does not have.
    #[error("spec.backend.volume: the operator has no volume; install it with volume.enabled")]
    NoVolume,
    /// The bucket's address, CA or credentials cannot be used.
    #[error("spec.backend.objectStore: {0}")]
    Settings(String),
    /// There is no such object.
    #[error("there is no object of that digest")]
    Missing,
    /// It is not as long as it is to be.
    #[error("it has {found} bytes and not {expected}")]
    Length {
        /// Bytes that it is to have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// The volume failed.
    #[error("the volume: {0}")]
    Volume(#[from] io::Error),
    /// The object store failed, in its words.
    #[error("the object store: {0}")]
    Store(String),
    /// It took too long.
    #[error("it took too long")]
    TimedOut,
}

/// Where packs are.
#[derive(Debug, Clone)]
pub struct Place {
    kind: Kind,
    deadline: Duration,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A folder that only one replica writes.
    Folder(PathBuf),
    Bucket(Objects),
}

impl Place {
    /// The place that the AuditStore names. `folder` is the operator's volume, if it has one.
    ///
    /// # Errors
    /// [`PlaceError`], where there is none.
    pub async fn of(
        backend: Option<&AuditBackend>,
        folder: Option<&Path>,
        client: &Client,
        allow: AllowSpecial,
    ) -> Result<Place, PlaceError> {
        let AuditBackend {
            volume,
            object_store,
        } = backend.ok_or(PlaceError::None)?;
        match (volume, object_store) {
            (Some(_), None) => folder
                .map(|folder| Place::folder(folder, DEADLINE))
                .ok_or(PlaceError::NoVolume),
            (None, Some(bucket)) => {
                let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
                let credentials = Credentials::read(&secrets).await?;
                Place::bucket(bucket, &credentials, allow, DEADLINE)
            }
            _ => Err(PlaceError::None),
        }
    }

    /// A folder. What is asked of it is done within `deadline`, or not at all.
    pub fn folder(folder: &Path, deadline: Duration) -> Place {
        let kind = Kind::Folder(folder.to_owned());
        Place { kind, deadline }
    }

    /// A bucket, likewise.
    ///
    /// # Errors
    /// [`PlaceError::Settings`] where its CA or address is none.
    pub fn bucket(
        spec: &ObjectStoreBackend,
        credentials: &Credentials,
        allow: AllowSpecial,
        deadline: Duration,
    ) -> Result<Place, PlaceError> {
        let kind = Kind::Bucket(Objects::new(spec, credentials, allow, deadline)?);
        Ok(Place { kind, deadline })
    }

    /// Writes an object; once this returns it outlives the power.
    ///
    /// # Errors
    /// [`PlaceError`]. It may be there nevertheless.
    pub async fn put(&self, digest: &str, bytes: Vec<u8>) -> Result<(), PlaceError> {
        let name = name_of(digest);
        self.in_time(async {
            match &self.kind {
                Kind::Folder(folder) => {
                    let folder = folder.clone();
                    blocking(move || write(&folder, &name, &bytes)).await
                }
                Kind::Bucket(objects) => objects.put(&name, bytes).await,
            }
        })
        .await
    }

    /// An object of so many bytes, as it is there. Whether they are the right ones its digest says.
    ///
    /// # Errors
    /// [`PlaceError::Missing`] where it is not there, [`PlaceError::Length`] where it has another
    /// length, and whatever else keeps it from being read.
    pub async fn get(&self, digest: &str, expected: u64) -> Result<Vec<u8>, PlaceError> {
        let name = name_of(digest);
        let longest = u64::try_from(MAX_PACK).unwrap_or(u64::MAX);
        if expected > longest {
            let found = expected;
            return Err(PlaceError::Length {
                expected: longest,
                found,
            });
        }
        let bytes = self
            .in_time(async {
                match &self.kind {
                    Kind::Folder(folder) => {
                        let path = folder.join(&name);
                        blocking(move || read(&path, expected)).await
                    }
                    Kind::Bucket(objects) => objects.get(&name, expected).await,
                }
            })
            .await?;
        let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match found == expected {
            true => Ok(bytes),
            false => Err(PlaceError::Length { expected, found }),
        }
    }

    /// Removes an object; that it was not there is no fault.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn delete(&self, digest: &str) -> Result<(), PlaceError> {
        let name = name_of(digest);
        self.in_time(async {
            match &self.kind {
                Kind::Folder(folder) => {
                    let path = folder.join(&name);
                    blocking(move || missing_is_fine(fs::remove_file(&path))).await
                }
                Kind::Bucket(objects) => objects.delete(&name).await,
            }
        })
        .await
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, PlaceError>>,
    ) -> Result<T, PlaceError> {
        let done = timeout(self.deadline, work).await;
        done.unwrap_or(Err(PlaceError::TimedOut))
    }
}

fn name_of(digest: &str) -> String {
    format!("{digest}{SUFFIX}")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, PlaceError> {
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(PlaceError::Missing),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(io::Error::other(error).into()),
    }
}

/// Whole and on the disk under its name, or not there.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // A folder that is not there is a volume that is not mounted, and no object that is missing.
    let draft = folder.join(DRAFT);
    let mut file = File::create(&draft).map_err(io::Error::other)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name)).map_err(io::Error::other)?;
    File::open(folder)?.sync_all()
}

fn read(path: &Path, expected: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = expected.saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn missing_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
