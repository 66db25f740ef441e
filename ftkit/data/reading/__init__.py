"""Files, folders and Hub datasets read strictly, row by row, each mistake with its file and line."""
