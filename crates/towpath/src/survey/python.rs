//! `pyproject.toml` and `requirements.txt`: what is installed, and the framework.
//!
//! Packages are installed beside the code, into `.packages`: a virtual environment holds links out of the tree, and
//! does not bear to be moved.

use super::document;
use super::finding::Place;
use super::folder::{Folder, Language};
use super::tree::{Tree, join};
use super::yaml::Node;

const PACKAGES: &str = ".packages";

/// What the files of a folder say.
pub fn read(tree: &Tree, dir: &str) -> Option<Folder> {
    let project = tree.read(&join(dir, "pyproject.toml"));
    let required = tree.read(&join(dir, "requirements.txt"));
    let place = match (&required, &project) {
        (Some(file), _) | (None, Some(file)) => file.at(0),
        (None, None) => return None,
    };
    let mut folder = Folder::new(dir, place, Language::Python);
    let mut known = String::new();
    if let Some(file) = &project {
        let root = document::toml(tree, file)?;
        let names = [["project", "name"], ["tool", "poetry"]];
        let name = root.at(&names[0]).and_then(Node::text);
        let poetry = root.at(&names[1]).and_then(|poetry| poetry.text_of("name"));
        folder.name = name.or(poetry).map(str::to_owned);
        known += &file.text;
    }
    if let Some(file) = &required {
        known += &file.text;
        for (at, line) in file.text.lines().enumerate() {
            if super::secret::has_password(line) {
                folder.findings.fault(
                    "plain-secret",
                    &file.at(at + 1),
                    "an address of packages holds a password in plain text",
                    "write `${NAME}` in its place, and make a new one",
                );
            }
        }
    }
    let known = known.to_lowercase();
    folder.build = Some(install(tree, dir, required.is_some()));
    folder.env = vec![("PYTHONPATH".to_owned(), PACKAGES.to_owned())];
    folder.run = run(tree, dir, &known);
    if tree.is_file(&join(dir, "alembic.ini")) {
        folder.migrate = Some((
            "python3 -m alembic upgrade head".to_owned(),
            Place::new(&join(dir, "alembic.ini"), 0),
        ));
    } else if tree.is_file(&join(dir, "manage.py")) && known.contains("django") {
        let place = Place::new(&join(dir, "manage.py"), 0);
        folder.migrate = Some(("python3 manage.py migrate --noinput".to_owned(), place));
    }
    Some(folder)
}

fn install(tree: &Tree, dir: &str, required: bool) -> String {
    let to = format!("--target {PACKAGES}");
    if required {
        format!("python3 -m pip install {to} -r requirements.txt")
    } else if tree.is_file(&join(dir, "uv.lock")) {
        format!(
            "uv export --frozen --no-dev --no-emit-project -o .requirements.txt && uv pip install {to} -r .requirements.txt"
        )
    } else {
        format!("python3 -m pip install {to} .")
    }
}

/// What serves, as far as the framework and the names of files tell.
fn run(tree: &Tree, dir: &str, known: &str) -> Option<(String, Place)> {
    let is = |name: &str| tree.is_file(&join(dir, name));
    let files = [
        "main.py",
        "app.py",
        "server.py",
        "app/main.py",
        "src/main.py",
        "app/__init__.py",
        "wsgi.py",
    ];
    let found = files.iter().find(|name| is(name)).copied();
    let place = |name: &str| Place::new(&join(dir, name), 0);
    if known.contains("django") && is("manage.py") {
        let settings = tree.folders(dir);
        let project = settings
            .iter()
            .find(|folder| tree.is_file(&join(folder, "wsgi.py")))?;
        let module = project.rsplit('/').next().unwrap_or_default();
        let run = match known.contains("gunicorn") {
            true => format!("python3 -m gunicorn {module}.wsgi --bind $HOST:$PORT"),
            false => "python3 manage.py runserver --noreload $HOST:$PORT".to_owned(),
        };
        return Some((run, place("manage.py")));
    }
    let file = found?;
    let module = file
        .trim_end_matches(".py")
        .trim_end_matches("/__init__")
        .replace('/', ".");
    let run = if known.contains("fastapi") || known.contains("starlette") {
        format!("python3 -m uvicorn {module}:app --host $HOST --port $PORT")
    } else if known.contains("flask") && known.contains("gunicorn") {
        format!("python3 -m gunicorn {module}:app --bind $HOST:$PORT")
    } else if known.contains("flask") {
        format!("python3 -m flask --app {module} run --host $HOST --port $PORT")
    } else if known.contains("streamlit") {
        format!("python3 -m streamlit run {file} --server.address $HOST --server.port $PORT")
    } else {
        format!("python3 {file}")
    };
    Some((run, place(file)))
}
