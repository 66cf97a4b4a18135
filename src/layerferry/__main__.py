from layerferry.cli import main

main()
