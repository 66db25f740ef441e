"""Commands that join the stages, one file each; nothing imports them but ftkit/cli.py."""
