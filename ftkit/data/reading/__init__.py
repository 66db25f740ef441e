"""Files, folders and Hub datasets read strictly, row by row, each mistake with its file and line.

documents.py     Raw text as documents, for pretraining and for tokenizers
joined_turns.py  Turns of the user that follow each other, joined into one
json_reader.py   Reads .jsonl and .json files record by record, in memory that does not grow with the file
loading.py       Finds the rows a name stands for (file, folder, bundled dataset, Hub id) and splits them into tra
problems.py      Gathers the mistakes of a file, so that all of them are listed at once
progress.py      A progress bar for reading files
read_as.py       How a person says that files are to be read: columns under other names, an encoding, joined turns
reader.py        Reads .jsonl, .json, .csv, .tsv, .xlsx, .parquet and .txt strictly
records.py       One row as it was read
run_rows.py      The rows of a run, loaded again as its settings say
separators.py    How the fields of a table are separated and quoted, found out from the file itself
spreadsheet.py   Reads .xlsx files row by row
streaming.py     Rows read as they are needed, for files and Hub datasets larger than memory
strict_json.py   JSON decoded strictly
table_reader.py  Reads tables row by row, in memory that does not grow with the file
text_file.py     Text files read in parts
writing.py       Writes rows to .jsonl, .json, .csv, .tsv or .parquet
"""
