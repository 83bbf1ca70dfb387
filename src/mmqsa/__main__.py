from mmqsa.cli import main

main()
