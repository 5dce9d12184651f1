"""Pictures of what was kept: contact sheets, maps, confusions. They are for people; nothing reads them."""
