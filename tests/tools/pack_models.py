#!/usr/bin/env python3
"""Deflate the members of .keras files, which Keras stores as they are: usage: pack_models.py FILE...

The sample models of tests/data are kept that way, for the repository's size. What they hold stays
as Keras wrote it. A file that would not shrink by two fifths is left alone.
"""
import io
import os
import sys
import zipfile

WORTH = 0.6


def main():
    for path in sys.argv[1:]:
        packed = io.BytesIO()
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED, compresslevel=9) as to:
            for member in whole.infolist():
                to.writestr(zipfile.ZipInfo(member.filename, member.date_time), whole.read(member),
                            zipfile.ZIP_DEFLATED, 9)
        if len(packed.getvalue()) < WORTH * os.path.getsize(path):
            with open(path, 'wb') as f:
                f.write(packed.getvalue())


if __name__ == '__main__':
    main()
