//! Named chats: a folder that holds, for each name, the conversation and what the model remembers of it.
//!
//! `NAME.json` has the messages and is written after every answer; `NAME.session` is a saved session
//! ([`Session::save`](crate::Session::save)) and may be some answers behind, or missing: whatever it has in common with
//! the conversation need not be computed again. Both are written to a part beside them and renamed, so that a crash
//! leaves the one before. Who has a chat open holds a lock on `NAME.lock`.

use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::engine::{BUILT_IN, Model, list_adapters};
use crate::error::{Error, ErrorKind, Result, printable};
use crate::gguf::AtomicFile;

/// Characters of a name at most.
const MAX_NAME: usize = 64;
/// Bytes of a conversation at most; it is parsed as a whole.
const MAX_BYTES: u64 = 64 << 20;
/// The version of the conversation's form.
const VERSION: u64 = 1;

/// A name of a chat: 1 to 64 letters, digits, `-` and `_`, so that it is a file name everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChatName(String);

impl FromStr for ChatName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let n = text.chars().count();
        // Devices of Windows, under any extension.
        let upper = text.to_ascii_uppercase();
        let is_device = matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL")
            || upper.len() == 4 && (upper.starts_with("COM") || upper.starts_with("LPT"));
        if n == 0 || n > MAX_NAME || !text.chars().all(is_plain) || text.starts_with('-') || is_device {
            let message = format!("`{}` cannot be the name of a chat", printable(text));
            let hint = format!("use 1 to {MAX_NAME} letters, digits, - and _, as in `work` or `trip-2027`");
            return Err(Error::new(ErrorKind::Usage, message).with_hint(hint));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ChatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of named chats.
#[derive(Clone, Debug)]
pub struct ChatStore {
    folder: PathBuf,
}

/// A chat, as a list shows it.
#[derive(Debug)]
pub struct ChatEntry {
    /// Its name.
    pub name: ChatName,
    /// The conversation; an error where it cannot be read.
    pub record: Result<ChatRecord>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// A conversation and what it was held with.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ChatRecord {
    /// File of the model, as it was named.
    pub model: PathBuf,
    /// [`Model::identity`].
    pub model_identity: u64,
    /// Adapters that the model was changed by, by their names.
    pub adapters: Vec<String>,
    /// When it was begun, in seconds since 1970 UTC.
    pub created_s: u64,
    /// When it was last written to, in seconds since 1970 UTC.
    pub used_s: u64,
    /// Objects with `role` and `content`.
    pub messages: Vec<Value>,
}

impl ChatRecord {
    /// Questions so far.
    pub fn n_turn(&self) -> usize {
        self.messages.iter().filter(|m| m["role"] == "user").count()
    }

    /// File name of the model.
    pub fn model_name(&self) -> String {
        self.model.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn to_json(&self) -> Value {
        let mut value = json!({
            "version": VERSION,
            "model": {
                "path": self.model.to_string_lossy(),
                "identity": format!("{:016x}", self.model_identity),
            },
            "created": self.created_s,
            "used": self.used_s,
            "messages": self.messages,
        });
        if !self.adapters.is_empty() {
            value["model"]["adapters"] = self.adapters.clone().into();
        }
        value
    }

    fn from_json(value: &Value, path: &Path) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Model, format!("not a conversation of Tealight: {what}"))
                .in_file(path)
                .with_hint("delete the file, or give the chat another name")
        };
        match value["version"].as_u64() {
            Some(VERSION) => {}
            Some(n) if n > VERSION => {
                let text = format!("a conversation of version {n}; this Tealight reads version {VERSION}");
                return Err(Error::new(ErrorKind::Model, text).in_file(path).with_hint("use a newer Tealight"));
            }
            _ => return Err(wrong("it has no version")),
        }
        let messages = value["messages"].as_array().ok_or_else(|| wrong("it has no messages"))?;
        if messages.iter().any(|m| !m["role"].is_string()) {
            return Err(wrong("a message has no role"));
        }
        let identity = value["model"]["identity"].as_str().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        Ok(Self {
            model: value["model"]["path"].as_str().unwrap_or_default().into(),
            model_identity: identity.ok_or_else(|| wrong("it names no model"))?,
            adapters: {
                let names = value["model"]["adapters"].as_array().map_or(&[][..], Vec::as_slice);
                names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
            },
            created_s: value["created"].as_u64().unwrap_or_default(),
            used_s: value["used"].as_u64().unwrap_or_default(),
            messages: messages.clone(),
        })
    }
}

impl ChatStore {
    /// The chats of a folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn file(&self, name: &ChatName, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }

    /// All chats by name. Files that no chat can have are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the folder cannot be read; a folder that does not exist holds none.
    pub fn list(&self) -> Result<Vec<ChatEntry>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == IoKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("cannot read the folder", &self.folder, e)),
        };
        let names = entries.flatten().filter_map(|e| {
            let file = e.file_name();
            file.to_str()?.strip_suffix(".json")?.parse::<ChatName>().ok()
        });
        let mut names: Vec<_> = names.collect();
        names.sort();
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |m| m.len());
        Ok(names
            .into_iter()
            .map(|name| {
                let bytes = size(self.file(&name, "json")) + size(self.file(&name, "session"));
                let record = self.read(&name);
                ChatEntry { name, record, bytes }
            })
            .collect())
    }

    /// The conversation of a chat.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such chat, [`ErrorKind::Model`] when its file is none of a conversation,
    /// [`ErrorKind::Io`].
    pub fn read(&self, name: &ChatName) -> Result<ChatRecord> {
        self.check(name)?;
        let path = self.file(name, "json");
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(|e| Error::io("cannot open", &path, e))?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io("cannot read", &path, e))?;
        if bytes.len() as u64 > MAX_BYTES {
            let text = format!("a conversation of more than {MAX_BYTES} bytes");
            return Err(Error::new(ErrorKind::Model, text).in_file(&path));
        }
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| {
            let text = format!("not a conversation of Tealight: {}", printable(&e.to_string()));
            Error::new(ErrorKind::Model, text).in_file(&path)
        })?;
        ChatRecord::from_json(&value, &path)
    }

    /// Is there such a chat, whole or damaged?
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is none.
    pub fn check(&self, name: &ChatName) -> Result<()> {
        if self.file(name, "json").exists() {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Usage, format!("there is no chat `{name}`"));
        Err(error.with_hint("`tealight chats` lists them"))
    }

    /// Removes a chat.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when there is no such chat or someone has it open, [`ErrorKind::Io`].
    pub fn remove(&self, name: &ChatName) -> Result<()> {
        self.check(name)?;
        let lock = self.lock(name)?;
        for extension in ["session", "json"] {
            let path = self.file(name, extension);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != IoKind::NotFound => return Err(Error::io("cannot remove", &path, e)),
                _ => {}
            }
        }
        drop(lock);
        // A lock that stays is harmless.
        let _ = fs::remove_file(self.file(name, "lock"));
        Ok(())
    }

    /// Opens a chat for going on with it, or begins it. Nobody else can until it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when someone has it open, [`ErrorKind::Model`] when its conversation cannot be read,
    /// [`ErrorKind::Io`].
    pub fn open(&self, name: &ChatName) -> Result<NamedChat> {
        make_private(&self.folder)?;
        let lock = self.lock(name)?;
        let record = match self.file(name, "json").exists() {
            true => Some(self.read(name)?),
            false => None,
        };
        Ok(NamedChat { name: name.clone(), store: self.clone(), record, _lock: lock })
    }

    fn lock(&self, name: &ChatName) -> Result<File> {
        let path = self.file(name, "lock");
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|e| Error::io("cannot open", &path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                let error = Error::new(ErrorKind::Usage, format!("the chat `{name}` is open elsewhere"));
                Err(error.with_hint("leave it there first, or use another name"))
            }
            // Where files cannot be locked nobody is kept out.
            Err(fs::TryLockError::Error(_)) => Ok(file),
        }
    }
}

/// A chat that is open here.
pub struct NamedChat {
    name: ChatName,
    store: ChatStore,
    record: Option<ChatRecord>,
    /// Held until the chat is closed.
    _lock: File,
}

impl NamedChat {
    /// Its name.
    pub fn name(&self) -> &ChatName {
        &self.name
    }

    /// The conversation so far; `None` for a new one.
    pub fn record(&self) -> Option<&ChatRecord> {
        self.record.as_ref()
    }

    /// Was it held with this model? A new one was, with any.
    ///
    /// # Errors
    /// [`ErrorKind::Model`] with both names otherwise.
    pub fn check_model(&self, model: &Model) -> Result<()> {
        let Some(record) = self.record.as_ref().filter(|r| r.model_identity != model.identity()) else {
            return Ok(());
        };
        let adapters: Vec<String> = model.adapters().iter().map(ToString::to_string).collect();
        if record.adapters != adapters {
            let (was, is) = (list_adapters(&record.adapters), list_adapters(&adapters));
            let text = format!("the chat `{}` was held with {was}, the model has {is}", self.name);
            let hint = "use the same adapters (--lora), another --name, or --recompute to go on with what there is";
            return Err(Error::new(ErrorKind::Model, text).with_hint(hint));
        }
        let was = printable(&record.model.to_string_lossy());
        let text = format!("the chat `{}` was held with another model, {was}", self.name);
        let hint = "use that model, another --name, or --recompute to go on with this model and all that was said";
        Err(Error::new(ErrorKind::Model, text).with_hint(hint))
    }

    /// Where the session is saved.
    pub fn session_path(&self) -> PathBuf {
        self.store.file(&self.name, "session")
    }

    /// Writes the conversation.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], and [`ErrorKind::Memory`] when the disk is full; the conversation before is still there.
    pub fn write(&mut self, model: &Model, messages: &[Value]) -> Result<()> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let path = model.gguf().path();
        let record = ChatRecord {
            model: match model.gguf().is_static() {
                true => BUILT_IN.into(),
                // A name that leads there from any folder.
                false => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            },
            model_identity: model.identity(),
            adapters: model.adapters().iter().map(ToString::to_string).collect(),
            created_s: self.record.as_ref().map_or(now_s, |r| r.created_s),
            used_s: now_s,
            messages: messages.to_vec(),
        };
        let path = self.store.file(&self.name, "json");
        let text = format!("{:#}\n", record.to_json());
        let mut file = AtomicFile::create_private(&path)?;
        file.write_all(text.as_bytes()).map_err(|e| Error::io("cannot write", &path, e))?;
        file.commit()?;
        self.record = Some(record);
        Ok(())
    }
}

/// Makes a folder that on Unix only its owner may look into; one that is there stays as it is.
fn make_private(folder: &Path) -> Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|e| Error::io("cannot make the folder", folder, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("tealight-chats-{}-{name}", std::process::id())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn model() -> Model {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama31/model.gguf");
        Model::open(path, &crate::engine::ModelOptions::default()).unwrap()
    }

    fn name(text: &str) -> ChatName {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_file_names_and_lead_nowhere_else() {
        for good in ["a", "work", "trip-2027", "Grüße_1", &"x".repeat(64)] {
            assert!(good.parse::<ChatName>().is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a.b", "-x", "a b", "nul", "COM1", "a\0", "a\n", "~", &long] {
            let error = bad.parse::<ChatName>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{bad:?}");
        }
    }

    #[test]
    fn a_chat_is_kept_listed_and_removed() {
        let folder = Folder::new("kept");
        let store = ChatStore::new(folder.0.join("a/b"));
        assert!(store.list().unwrap().is_empty(), "a folder that is not there");
        assert!(store.read(&name("work")).unwrap_err().to_string().contains("no chat `work`"));
        let mut chat = store.open(&name("work")).unwrap();
        assert!(chat.record().is_none() && store.list().unwrap().is_empty());
        let model = model();
        chat.check_model(&model).unwrap();
        let messages = [json!({"role": "user", "content": "hi\u{1b}"}), json!({"role": "assistant", "content": "ho"})];
        chat.write(&model, &messages).unwrap();
        let list = store.list().unwrap();
        let record = list[0].record.as_ref().unwrap();
        assert_eq!((list.len(), record.n_turn(), record.model_name().as_str()), (1, 1, "model.gguf"));
        assert_eq!((&record.messages[..], record.model_identity), (&messages[..], model.identity()));
        assert!(record.model.is_absolute() && record.used_s >= record.created_s && list[0].bytes > 0);

        let error = store.open(&name("work")).err().expect("it is open");
        assert!(error.to_string().contains("open elsewhere"), "{error}");
        assert!(store.remove(&name("work")).is_err(), "it is open");
        drop(chat);
        let chat = store.open(&name("work")).unwrap();
        assert_eq!(chat.record(), Some(record));
        drop(chat);
        store.remove(&name("work")).unwrap();
        assert!(store.list().unwrap().is_empty() && store.remove(&name("work")).is_err());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(store.folder()).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn another_model_is_named() {
        let folder = Folder::new("model");
        let store = ChatStore::new(&folder.0);
        let mut chat = store.open(&name("work")).unwrap();
        chat.write(&model(), &[]).unwrap();
        let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3/model.gguf");
        let other = Model::open(other, &crate::engine::ModelOptions::default()).unwrap();
        let error = chat.check_model(&other).unwrap_err();
        assert!(error.to_string().contains("llama31") && error.hint().unwrap().contains("--recompute"), "{error}");
        chat.check_model(&model()).unwrap();
    }

    #[test]
    fn a_file_that_is_no_conversation_is_an_error_of_its_own() {
        let folder = Folder::new("hostile");
        let store = ChatStore::new(&folder.0);
        fs::create_dir_all(&folder.0).unwrap();
        let deep = "[".repeat(100_000);
        for text in
            ["", "{", "[]", "{\"version\":1}", r#"{"version":1,"messages":[1],"model":{"identity":"0"}}"#, &deep]
        {
            fs::write(folder.0.join("bad.json"), text).unwrap();
            let list = store.list().unwrap();
            assert_eq!(list[0].record.as_ref().unwrap_err().kind(), ErrorKind::Model, "{text:.40}");
            assert_eq!(store.open(&name("bad")).err().expect("a refusal").kind(), ErrorKind::Model);
        }
        fs::write(folder.0.join("bad.json"), r#"{"version":2}"#).unwrap();
        assert!(store.read(&name("bad")).unwrap_err().hint().unwrap().contains("newer"));
        fs::write(folder.0.join("no chat.json"), "{}").unwrap();
        assert_eq!(store.list().unwrap().len(), 1);
        store.remove(&name("bad")).unwrap();
    }
}
