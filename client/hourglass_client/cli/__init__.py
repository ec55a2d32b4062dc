"""The command line `hourglass`: files and folders in and out, tables for people, JSON for scripts."""
