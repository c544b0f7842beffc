"""What a manifest only refers to: where secrets come from, and what stands for their content everywhere else.

store       each secret once, and its digest        digest_key  the key of those digests
sops        decrypts files of the repository        providers   who is asked, one file each

May import `state`, `manifest` and what is below.  No content is ever logged, put into an error, or kept on the disk.
"""
