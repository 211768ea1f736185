"""Reading and writing of every published checkpoint layout."""
