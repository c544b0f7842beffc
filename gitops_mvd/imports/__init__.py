"""A Compose project as it lies on a disk → the folder of an app: `mvd import`.

    found = plan(Request("/home/me/nextcloud"), Disk(), FolderTree(repository))
    write_app(repository / "apps" / found.app, found.files)

plan       the steps, and the validation of the result      draft      what is known of an import in the making
load       the Compose files and env files of a project      document   a YAML text, the places in it, and its edits
environment, texts, folders, secrets, images, variables      what is secret, and how it leaves the files
mounts     what comes into Git, and what the host keeps      builds     the images of what was built
repairs, notes, finish   what is mended and told             report     how it is printed
source     what is asked of the disk                         disk       the only module here that touches it

A text is edited at single places and never written anew, so that comments, anchors and order stay.  Nothing secret gets
into a file, a message or a report.
May import `manifest`, `config` and `core`.  Must not know Docker, Git, a server or its settings.
"""
