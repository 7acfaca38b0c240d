"""What controller and worker have in common: the contract between them and the floor both stand on."""
