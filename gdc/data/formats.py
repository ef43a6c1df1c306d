"""Image formats that gdc reads and writes, by file name ending."""

# Pillow's name of each format that is read. An MPO is a JPEG of several images.
READ = {
  '.png': 'PNG', '.apng': 'PNG',
  '.jpg': 'JPEG', '.jpeg': 'JPEG', '.jpe': 'JPEG', '.jfif': 'JPEG',
  '.mpo': 'JPEG',
  '.webp': 'WEBP',
  '.avif': 'AVIF', '.avifs': 'AVIF',
  '.tif': 'TIFF', '.tiff': 'TIFF',
  '.gif': 'GIF',
  '.bmp': 'BMP',
  '.ppm': 'PPM', '.pgm': 'PPM', '.pbm': 'PPM', '.pnm': 'PPM',
}
WRITTEN = {
  suffix: name for suffix, name in READ.items()
  if suffix not in ('.apng', '.mpo', '.avifs', '.gif', '.pbm')
}
# For messages.
NAMES_READ = 'PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP or PPM'
SUFFIXES_WRITTEN = '.png .jpg .webp .avif .tif .bmp .ppm'
