//! The folder `STATE/evidence` of a standalone sidecar: opening it, and attaching to it.
//!
//! ```text
//! lock                  held by the sidecar that records here
//! keys/log.key          Ed25519 key that certifies each attach        0600
//! keys/log.pub          its public half, what an auditor keeps
//! keys/digest.key       HMAC key of command digests                   0600
//! keys/seal.key         identities of age that open what is sealed     0600
//! segments/<n>.seg      the log
//! latest                copy of the newest attach and head
//! spool/<n>             frames not shipped yet
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::clock::Environment;
use crate::engine::Engine;
use crate::entry::Attach;
use crate::error::StoreError;
use crate::export::Exports;
use crate::keys::{self, SigningKey};
use crate::record::{AttachId, MAX_TEXT};
use crate::recorder::Recorder;
use crate::recover::{self, Left};
use crate::seal::{
    Identity, Recipient, Recipients, SEAL_KEY, SealState, ShippedKeys, read_identities,
};
use crate::segment;
use crate::shipper::{LogState, Shipper, publish};
use crate::spool::{self, BATCH_HEADER, FILE_HEADER};

pub use crate::keys::DigestKey;

const LOCK: &str = "lock";
pub(crate) const LOG_KEY: &str = "keys/log.key";
pub(crate) const LOG_PUBLIC: &str = "keys/log.pub";
pub(crate) const DIGEST_KEY: &str = "keys/digest.key";
/// How long a sidecar that just ended may take to let go of its folder.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Smallest spool file: room for a few batches.
const MIN_FILE: u64 = 16 * 1024;

/// Who attaches, as the attach certificate says.
#[derive(Debug, Clone, Default)]
pub struct AttachIdentity {
    /// `namespace/service-account` the sidecar works for.
    pub subject: String,
    /// The machine's name.
    pub host: String,
    /// The sidecar's version.
    pub version: String,
}

/// Sizes and patience of the spool.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// Bytes of one spool file; at least 16 KiB.
    pub file_bytes: u64,
    /// How many there are; at least 2.
    pub files: usize,
    /// Bytes kept back for Gap and SessionEnd; less than one file.
    pub reserve: u64,
    /// How long an intent may wait for its durability.
    pub deadline: Duration,
    /// Whom new sessions are sealed for, at most [`crate::seal::MAX_RECIPIENTS`]; none: they are not.
    pub recipients: Vec<Recipient>,
    /// Whether the store's segments are sent away ([`crate::outbox::Outbox`]): only then can
    /// Replicated be served, and is not served as Synced.
    pub replicate: bool,
    /// Most bytes on the disk of what sinks have not been told yet; what comes then, they are only
    /// told is missing.
    pub export_bytes: u64,
}

impl Default for SpoolOptions {
    fn default() -> SpoolOptions {
        SpoolOptions {
            file_bytes: 16 * 1024 * 1024,
            files: 4,
            reserve: 4 * 1024 * 1024,
            deadline: Duration::from_secs(5),
            recipients: Vec::new(),
            replicate: false,
            export_bytes: 256 * 1024 * 1024,
        }
    }
}

impl SpoolOptions {
    /// The nearest sizes that work.
    fn sane(mut self) -> SpoolOptions {
        self.file_bytes = self.file_bytes.clamp(MIN_FILE, 1 << 30);
        self.files = self.files.clamp(2, 64);
        self.reserve = self
            .reserve
            .min(self.file_bytes - (FILE_HEADER + BATCH_HEADER) as u64);
        self
    }
}

/// A store's folder, its keys loaded.
pub struct Store {
    dir: PathBuf,
    environment: Environment,
    log_public: [u8; 32],
    writable: Option<Writable>,
    digest_key: DigestKey,
}

struct Writable {
    log: SigningKey,
    folder: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the folder for a sidecar and makes what is missing: folders and keys. It is locked
    /// until the store, or the recorder made of it, is gone.
    pub fn open(dir: &Path) -> Result<Store, StoreError> {
        Store::open_with(dir, Environment::system())
    }

    /// [`Store::open`] for a store whose digests must compare with those of others: a new one gets
    /// this digest key.
    ///
    /// # Errors
    /// [`StoreError::OtherDigestKey`] where the store has another one. Its records stay what they
    /// are; new ones belong into a folder of their own.
    pub fn open_with_digest_key(dir: &Path, key: &[u8; 32]) -> Result<Store, StoreError> {
        Store::open_for(dir, Environment::system(), Some(key))
    }

    /// [`Store::open`] with clock, randomness and disk given.
    pub fn open_with(dir: &Path, environment: Environment) -> Result<Store, StoreError> {
        Store::open_for(dir, environment, None)
    }

    fn open_for(
        dir: &Path,
        environment: Environment,
        digest_key: Option<&[u8; 32]>,
    ) -> Result<Store, StoreError> {
        for folder in ["", "keys", segment::FOLDER, spool::FOLDER] {
            let path = dir.join(folder);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|e| StoreError::io("create", &path, e))?;
        }
        let folder = take_lock(dir)?;
        if !dir.join(LOG_KEY).exists() {
            // A new key over an old log would certify attaches nobody can tie to the others.
            if !segment::list(dir)?.is_empty() {
                return Err(corrupt(dir, LOG_KEY, "it is missing, but there is a log"));
            }
            create_keys(dir, &environment, digest_key)?;
        }
        let seed = read_log_key(dir)?;
        let log =
            SigningKey::from_seed(&seed).ok_or(StoreError::Crypto("the log key is not usable"))?;
        let log_public = *log.public();
        if read_log_public(dir)? != log_public {
            return Err(corrupt(
                dir,
                LOG_PUBLIC,
                "it is not the public half of log.key",
            ));
        }
        let given = digest_key;
        let digest_key = read_digest_key(dir)?;
        if given.is_some_and(|given| DigestKey::new(given).commitment() != digest_key.commitment())
        {
            return Err(StoreError::OtherDigestKey(dir.to_path_buf()));
        }
        let writable = Some(Writable { log, folder });
        Ok(Store {
            dir: dir.to_path_buf(),
            environment,
            log_public,
            writable,
            digest_key,
        })
    }

    /// Opens an existing folder to read it; also while a sidecar records there.
    pub fn open_read_only(dir: &Path) -> Result<Store, StoreError> {
        if !dir.join(segment::FOLDER).is_dir() {
            return Err(StoreError::NotFound(dir.to_path_buf()));
        }
        Ok(Store {
            dir: dir.to_path_buf(),
            environment: Environment::system(),
            log_public: read_log_public(dir)?,
            writable: None,
            digest_key: read_digest_key(dir)?,
        })
    }

    /// `SHA256:…` of the log's public key, as `verify --key` takes it.
    pub fn log_fingerprint(&self) -> String {
        keys::fingerprint(&self.log_public)
    }

    /// The log's public key as PEM.
    pub fn log_public_key(&self) -> String {
        keys::public_pem(&self.log_public)
    }

    /// The key digests of commands are made with.
    pub fn digest_key(&self) -> &DigestKey {
        &self.digest_key
    }

    /// The recipient of the store's own key file, which is made if it is missing: whoever may read
    /// the folder can then read what is sealed for it.
    ///
    /// # Errors
    /// Where the file cannot be made, or is not what it should be.
    pub fn own_recipient(&self) -> Result<Recipient, StoreError> {
        if let Some(identity) = read_identities(&self.dir)?.last() {
            return Ok(identity.recipient());
        }
        let identity = Identity::generate(self.environment.entropy.as_ref())
            .ok_or(StoreError::Crypto("no randomness"))?;
        let path = self.dir.join(SEAL_KEY);
        let mut text = identity.to_text();
        text.push('\n');
        publish(self.environment.disk.as_ref(), &path, text.as_bytes())
            .map_err(|e| StoreError::io("write", &path, e))?;
        Ok(identity.recipient())
    }

    /// Verifies and ships what a crash left, certifies a new attach and starts its recorder.
    pub fn attach(
        self,
        identity: AttachIdentity,
        options: SpoolOptions,
    ) -> Result<Arc<Recorder>, StoreError> {
        let Writable { log, folder } = self.writable.ok_or(StoreError::ReadOnly)?;
        let (dir, environment, options) = (self.dir, self.environment, options.sane());
        let left = recover::left(&dir)?;
        let (key, id) = new_attach(&environment)?;
        let certificate = Attach {
            ordinal: left.attaches + 1,
            id,
            public: *key.public(),
            log_public: self.log_public,
            previous: left.attach,
            previous_head: left.head,
            segment: left.segment + 1,
            previous_segment: left.digest,
            digest_key: *self.digest_key.commitment(),
            wall_ns: environment.clock.wall_ns(),
            subject: cut(identity.subject),
            host: cut(identity.host),
            version: cut(identity.version),
            lost: left.lost.clone(),
        };
        let body = certificate
            .encode(&log)
            .ok_or(StoreError::Crypto("cannot sign the attach"))?;
        let recipients = Recipients::new(options.recipients.clone());
        let shipped = ShippedKeys::default();
        let told = options.replicate.then_some(&shipped);
        let signer = (id, &key, body.as_slice());
        let exports = Exports::open(&dir, left.segment, options.export_bytes)?;
        let keep = (told, &exports);
        let state = first_segments(&dir, &environment, left, signer, &recipients, keep)?;
        let latest = dir.join(segment::LATEST);
        publish(
            environment.disk.as_ref(),
            &latest,
            &segment::latest(&body, None),
        )
        .map_err(|e| StoreError::io("write", &latest, e))?;
        remove_old_spool(&dir)?;
        let engine = Arc::new(Engine::create(&dir, environment, options, id, exports)?);
        engine.replication.published(state.segment, 0);
        let sealing = (recipients, shipped);
        start_threads(&engine, dir, key, body, sealing.clone(), state)?;
        let recorder = Recorder::new(engine, self.digest_key, folder, sealing);
        Ok(Arc::new(recorder))
    }
}

/// Writes the attach and what is recovered under its key. Durable before the old spool goes.
fn first_segments(
    dir: &Path,
    environment: &Environment,
    left: Left,
    (id, key, certificate): (AttachId, &SigningKey, &[u8]),
    recipients: &Recipients,
    (shipped, exports): (Option<&ShippedKeys>, &Exports),
) -> Result<LogState, StoreError> {
    let number = left.segment + 1;
    let path = dir.join(segment::relative_path(number));
    let io = |e: io::Error| StoreError::io("write", &path, e);
    let mut compressor = zstd::bulk::Compressor::new(1).map_err(io)?;
    let disk = environment.disk.as_ref();
    let mut writer = segment::SegmentWriter::create(disk, dir, number, &left.digest).map_err(io)?;
    writer.entry(segment::ATTACH, &[certificate]).map_err(io)?;
    let mut seal = SealState::default();
    let body = seal.renew(recipients, id, environment, key).map_err(io)?;
    if let Some(body) = body {
        writer.entry(segment::SEAL, &[&body]).map_err(io)?;
    }
    let mut copied = exports.begin(id, number);
    for mut run in left.runs {
        if let Some(copied) = &mut copied {
            copied.run(&run).map_err(io)?;
        }
        if seal.active().is_some_and(|active| !run.seal_under(active)) {
            return Err(StoreError::Crypto("cannot seal what was recovered"));
        }
        if let (Some(shipped), Some((name, key, _))) = (shipped, run.opened_by(id)) {
            // Nothing more of it comes under this attach.
            shipped.add(number, [(name, key, true)]);
        }
        let (header, payload) = run
            .finish(id, true, key, &mut compressor, environment)
            .map_err(io)?;
        writer
            .entry(segment::RUN, &[&header, &payload])
            .map_err(io)?;
    }
    // Also where nothing was recovered: the sessions of the life before are over.
    if let Some(copied) = &mut copied {
        exports.keep(disk, copied);
    }
    let digest = writer.publish().map_err(io)?;
    if let Some(copied) = &copied {
        exports.publish(copied);
    }
    Ok(LogState::new(number, digest, seal))
}

fn start_threads(
    engine: &Arc<Engine>,
    dir: PathBuf,
    key: SigningKey,
    certificate: Vec<u8>,
    sealing: (Recipients, ShippedKeys),
    state: LogState,
) -> Result<(), StoreError> {
    let shipper = Shipper::new(
        Arc::clone(engine),
        dir.clone(),
        key,
        certificate,
        sealing,
        state,
    )
    .map_err(|e| StoreError::io("start shipping from", &dir, e))?;
    let syncing = Arc::clone(engine);
    let spawned = std::thread::Builder::new()
        .name("evidence-sync".into())
        .spawn(move || syncing.sync_loop())
        .and_then(|_| {
            std::thread::Builder::new()
                .name("evidence-ship".into())
                .spawn(move || shipper.run())
        });
    spawned.map(drop).map_err(|e| {
        engine.stop();
        StoreError::io("start the threads of", &dir, e)
    })
}

fn remove_old_spool(dir: &Path) -> Result<(), StoreError> {
    let folder = dir.join(spool::FOLDER);
    let io = |e| StoreError::io("clear", &folder, e);
    for entry in fs::read_dir(&folder).map_err(io)? {
        fs::remove_file(entry.map_err(io)?.path()).map_err(io)?;
    }
    Ok(())
}

fn new_attach(environment: &Environment) -> Result<(SigningKey, AttachId), StoreError> {
    let mut seed = Zeroizing::new([0; 32]);
    let mut id = AttachId::default();
    if !environment.entropy.fill(seed.as_mut()) || !environment.entropy.fill(&mut id.0) {
        return Err(StoreError::Crypto("no randomness"));
    }
    let key =
        SigningKey::from_seed(&seed).ok_or(StoreError::Crypto("the attach key is not usable"))?;
    Ok((key, id))
}

fn cut(text: String) -> String {
    if text.len() <= MAX_TEXT {
        text
    } else {
        text.chars().take(MAX_TEXT / 4).collect()
    }
}

// ---- the lock ----

fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| StoreError::io("open", &path, e))?;
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", &path, e)),
            // A verify looks at the lock for a moment; a sidecar that ends needs a little longer.
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.to_path_buf())),
        }
    }
}

/// Whether a sidecar records in this folder right now.
pub(crate) fn in_use(dir: &Path) -> bool {
    File::open(dir.join(LOCK))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

// ---- keys ----

fn create_keys(
    dir: &Path,
    environment: &Environment,
    digest_key: Option<&[u8; 32]>,
) -> Result<(), StoreError> {
    let mut seed = Zeroizing::new([0; 32]);
    let mut digest = Zeroizing::new([0; 32]);
    let random = environment.entropy.fill(seed.as_mut());
    if let Some(given) = digest_key {
        digest.copy_from_slice(given);
    } else if !environment.entropy.fill(digest.as_mut()) {
        return Err(StoreError::Crypto("no randomness"));
    }
    if !random {
        return Err(StoreError::Crypto("no randomness"));
    }
    let log =
        SigningKey::from_seed(&seed).ok_or(StoreError::Crypto("the log key is not usable"))?;
    let disk = environment.disk.as_ref();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        publish(disk, &path, bytes).map_err(|e| StoreError::io("write", &path, e))
    };
    write(DIGEST_KEY, keys::digest_key_text(&digest).as_bytes())?;
    write(LOG_PUBLIC, keys::public_pem(log.public()).as_bytes())?;
    // Last: a store whose log key is there has the others too.
    write(LOG_KEY, keys::private_pem(&seed).as_bytes())
}

fn read_text(dir: &Path, name: &str) -> Result<Zeroizing<String>, StoreError> {
    let path = dir.join(name);
    let bytes = Zeroizing::new(fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?);
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(corrupt(dir, name, "it is not text")),
    }
}

pub(crate) fn read_log_key(dir: &Path) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    keys::parse_private_pem(&read_text(dir, LOG_KEY)?)
        .ok_or_else(|| corrupt(dir, LOG_KEY, "it is not an Ed25519 private key in PEM"))
}

pub(crate) fn read_log_public(dir: &Path) -> Result<[u8; 32], StoreError> {
    keys::parse_public_pem(&read_text(dir, LOG_PUBLIC)?)
        .ok_or_else(|| corrupt(dir, LOG_PUBLIC, "it is not an Ed25519 public key in PEM"))
}

pub(crate) fn read_digest_key(dir: &Path) -> Result<DigestKey, StoreError> {
    keys::parse_digest_key(&read_text(dir, DIGEST_KEY)?)
        .map(|key| DigestKey::new(&key))
        .map_err(|e| corrupt(dir, DIGEST_KEY, e.0))
}

pub(crate) fn corrupt(dir: &Path, name: impl AsRef<Path>, what: &str) -> StoreError {
    StoreError::Corrupt {
        path: dir.join(name),
        what: what.to_owned(),
    }
}
